"""Where state lives. Only names of places: nothing here reads or writes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct


class Home(Struct, frozen=True):
    """The layout below GPUBROKER_HOME."""

    root: Path

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Home:
        """GPUBROKER_HOME, else the platform's user data folder."""
        if chosen := environ.get("GPUBROKER_HOME"):
            return cls(Path(chosen).expanduser())
        if sys.platform != "linux":
            from platformdirs import user_data_path

            return cls(user_data_path("gpubroker", appauthor=False))
        # As platformdirs has it, whose import takes longer than all else that `ps` does.
        shared = environ.get("XDG_DATA_HOME", "").strip()
        return cls((Path(shared) if shared else _user(environ) / ".local/share") / "gpubroker")

    @property
    def live_store(self) -> Path:
        """The store of the live realm."""
        return self.root / "state.db"

    @property
    def sandbox(self) -> Path:
        """The background sandbox's own state: clouds, machines, keys, its process record."""
        return self.root / "sandbox"

    def sandbox_store(self, sandbox_id: str) -> Path:
        """The broker's store for one sandbox realm."""
        return self.sandbox / "stores" / f"{sandbox_id}.db"

    @property
    def ssh(self) -> Path:
        """Broker keys, known hosts and the included ssh configuration."""
        return self.root / "ssh"

    @property
    def market(self) -> Path:
        """Offer snapshots, one file a provider, below a folder a realm."""
        return self.root / "market"

    @property
    def config(self) -> Path:
        """The user's configuration."""
        return self.root / "config.toml"

    @property
    def credentials(self) -> Path:
        """Keys that `login` stored, sealed; mode 0600."""
        return self.root / "credentials"

    @property
    def env_file(self) -> Path:
        """NAME=VALUE lines that keys of clouds are read from."""
        return self.root / ".env"

    @property
    def gpus(self) -> Path:
        """The user's own GPU models."""
        return self.root / "gpus.toml"

    @property
    def seal_key(self) -> Path:
        """0600 key that seals secrets in the store, where GPUBROKER_SECRET_KEY is not set."""
        return self.root / "secret.key"


def _user(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()
