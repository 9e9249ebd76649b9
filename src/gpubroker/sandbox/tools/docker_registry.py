"""docker and the registries: images that were pulled, logins that were made."""

from __future__ import annotations

import hashlib
import sys

from . import containers
from .docker_words import parsed
from .facts import refuse, say


def pull(words: list[str]) -> int:
    """`docker pull`; the exit code."""
    _, rest = parsed(words)
    if not rest:
        return refuse('"docker pull" requires exactly 1 argument.', 1)
    if containers.pull(rest[0]) is not None:
        return 1
    return say(f"Status: Downloaded newer image for {rest[0]}", rest[0])


def images(words: list[str]) -> int:
    """`docker images`; the exit code."""
    quiet = "--quiet" in parsed(words)[0]
    rows = containers.known("images").items()
    lines = [id_[7:19] if quiet else f"{name:<40}{id_[7:19]}" for name, id_ in rows]
    return say(*lines) if lines else 0


def login(words: list[str]) -> int:
    """`docker login`: what was given is kept to be checked; of the password only its hash."""
    options, rest = parsed(words)
    user = options.get("--username", options.get("--user", [""]))[-1]
    if "--password-stdin" in options:
        password = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    else:
        password = options.get("--password", options.get("--publish", [""]))[-1]
        sys.stderr.write("WARNING! Using --password via the CLI is insecure.\n")
    if not user or not password:
        return refuse("Error: Cannot perform an interactive login from a non TTY device", 1)
    digest = hashlib.sha256(password.encode()).hexdigest()
    registry = rest[0] if rest else "https://index.docker.io/v1/"
    kept = {"user": user, "password_sha256": digest, "logged_in": True}
    containers.know("logins", {**containers.known("logins"), registry: kept})
    return say("Login Succeeded")


def logout(words: list[str]) -> int:
    """`docker logout`; the exit code."""
    registry = words[0] if words else "https://index.docker.io/v1/"
    logins = containers.known("logins")
    if registry not in logins:
        return say(f"Not logged in to {registry}")
    containers.know("logins", {**logins, registry: {**logins[registry], "logged_in": False}})
    return say(f"Removing login credentials for {registry}")
