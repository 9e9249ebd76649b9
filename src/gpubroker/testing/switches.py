"""Every way in which clouds differ, as a switch of the imaginary one."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from gpubroker.model.capabilities import Capabilities
from gpubroker.model.terms import Carrier, Expiry, Kind, Market, Resource


class Switches(Struct, frozen=True, kw_only=True):
    """One imaginary cloud. The defaults are the most forgiving one."""

    carrier: Carrier = Carrier.TOKEN
    gone: Literal["404", "tombstone", "absent"] = "404"
    scoped: bool = False
    """Two scopes, each with ids of its own that repeat in the other."""
    async_create: bool = False
    create_deadline_s: float = 0.0
    list_lag_s: float = 0.0
    needs: tuple[Resource, ...] = ()
    ssh_keys: Literal["inline", "attached", "registry", "account_set", "metadata", "bootstrap"] = (
        "inline"
    )
    stop: Literal["keeps_disk", "loses_gpu", "none"] = "keeps_disk"
    stop_wipes: bool = False
    """Whether a stop takes all that was put onto the machine."""
    resume_id: Literal["same", "new", "told", "same_after_all"] = "same"
    """Whether a started machine keeps its id; "told": the answer to the start says the new one.

    "same_after_all": it may get another, says the cloud, and never does.
    """
    new_id_hidden_s: float = 0.0
    """So long after a start nothing at all is told of its new id."""
    old_id_lingers_s: float = 0.0
    """So long after a start the former id is still told, as that of a stopped machine."""
    start_once: bool = False
    """Whether a start of what is not stopped is refused."""
    billing: Literal["exact", "daily", "balance", "manual"] = "exact"
    billing_lag_s: float = 0.0
    expiry: Expiry = Expiry.PROVIDER
    extendable: bool = True
    """Whether an expiry that the cloud keeps can be moved."""
    terminate_s: float = 0.0
    """Between an accepted terminate and the end, billed."""
    boot_s: float = 20.0
    absence_grace_s: float = 30.0
    boots_over_ssh: bool = False
    """Whether a part of each machine's start is run over SSH."""
    quota_gpus: int | None = None
    """So many GPUs an account may have at once, told and kept; None: no limit, none told."""

    @property
    def all_needs(self) -> tuple[Resource, ...]:
        """`needs`, with the key object where keys are registered."""
        if self.ssh_keys == "registry" and Resource.SSH_KEY not in self.needs:
            return (Resource.SSH_KEY, *self.needs)
        return self.needs

    @property
    def carriers(self) -> tuple[Carrier, ...]:
        """Best first. A token cannot be searched by, so a tag goes with it."""
        with_token = (Carrier.TOKEN, Carrier.TAG)
        return with_token if self.carrier is Carrier.TOKEN else (self.carrier,)

    def capabilities(self) -> Capabilities:
        """What the provider declares."""
        return Capabilities(
            kinds=frozenset({Kind.VM}),
            markets=frozenset({Market.ON_DEMAND, Market.SPOT}),
            carriers=self.carriers,
            image="docker_on_vm",
            startup="cloud_init",
            startup_max_bytes=16384,
            ssh="sshd",
            ssh_keys=self.ssh_keys,
            env="native",
            ports="any_tcp",
            stop=self.stop,
            stop_wipes=self.stop_wipes,
            start_renames=self.resume_id != "same",
            expiry=self.expiry,
            needs=self.all_needs,
            create_deadline_s=self.create_deadline_s,
            list_lag_s=self.list_lag_s,
            absence_grace_s=self.absence_grace_s,
            gone=self.gone,
            scoped_list=self.scoped,
            async_create=self.async_create,
            billing=self.billing,
            billing_lag_s=self.billing_lag_s,
            limits=(),
        )


SWITCHES: dict[str, tuple[Any, ...]] = {
    "carrier": tuple(Carrier),
    "gone": ("404", "tombstone", "absent"),
    "scoped": (False, True),
    "async_create": (False, True),
    "create_deadline_s": (0.0, 60.0),
    "list_lag_s": (0.0, 30.0),
    "needs": ((), (Resource.STARTUP_SCRIPT,), (Resource.NETWORK, Resource.ADDRESS)),
    "ssh_keys": ("inline", "attached", "registry", "account_set", "metadata", "bootstrap"),
    "stop": ("keeps_disk", "loses_gpu", "none"),
    "stop_wipes": (False, True),
    "resume_id": ("same", "new", "told"),
    "billing": ("exact", "daily", "balance", "manual"),
    "billing_lag_s": (0.0, 7200.0),
    "expiry": tuple(Expiry),
    "terminate_s": (0.0, 60.0),
}
"""Field of Switches -> its values worth combining: `Switches(**combination)` takes one of each."""
