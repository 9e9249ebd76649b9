"""Secrets in the store are sealed: ChaCha20-Poly1305 under GPUBROKER_SECRET_KEY or a key file."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from gpubroker.store.errors import NoSecretKey

KEY_BYTES = 32
NONCE_BYTES = 12
_VERSION = b"\x01"


class Seal:
    """Opens and closes sealed columns. The key is read or made on first use."""

    def __init__(self, key_file: Path, from_env: str | None) -> None:
        self._key_file = key_file
        self._from_env = from_env

    def __repr__(self) -> str:
        return "Seal(***)"

    def close(self, plain: bytes) -> bytes:
        """Seal for the store; makes the key file at first use."""
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        nonce = os.urandom(NONCE_BYTES)
        return _VERSION + nonce + ChaCha20Poly1305(self._key(make=True)).encrypt(nonce, plain, None)

    def open(self, sealed: bytes) -> bytes:
        """Raises NoSecretKey where the key is missing or another one."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        nonce, body = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            return ChaCha20Poly1305(self._key(make=False)).decrypt(nonce, body, None)
        except InvalidTag:
            raise NoSecretKey(
                "the secret key is not the one that sealed this launch: machines can be ended and "
                "billed, none can be started. Restore GPUBROKER_SECRET_KEY or secret.key."
            ) from None

    def _key(self, *, make: bool) -> bytes:
        if self._from_env:
            return _decode(self._from_env, "GPUBROKER_SECRET_KEY")
        try:
            return _decode(self._key_file.read_text().strip(), str(self._key_file))
        except FileNotFoundError:
            if not make:
                raise NoSecretKey(
                    f"{self._key_file} is missing: machines can be ended and billed, "
                    "none can be started. Restore the file, or set GPUBROKER_SECRET_KEY."
                ) from None
        return self._make()

    def _make(self) -> bytes:
        key = os.urandom(KEY_BYTES)
        self._key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self._key_file.with_suffix(f".{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, base64.urlsafe_b64encode(key))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            # A link never overwrites: of two processes at once one key wins, and both use it.
            self._key_file.hardlink_to(draft)
        except FileExistsError:
            return _decode(self._key_file.read_text().strip(), str(self._key_file))
        finally:
            draft.unlink()
        return key


def _decode(text: str, where: str) -> bytes:
    try:
        key = base64.urlsafe_b64decode(text.encode())
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise NoSecretKey(f"{where} is not {KEY_BYTES} bytes in url-safe base64")
    return key
