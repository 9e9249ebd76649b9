"""How a GPU's name is taken apart: noise words, memory, form factor, MIG profile.

Text only: nothing here knows a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

_NOISE = re.compile(
    r"nvidia|geforce|tesla|amd(?= )|instinct|radeon"
    r"|\b(?:gpus?|graphics|generation|edition|blackwell|tensor core|hbm\d?e?|nvlink|google|intel"
    r"|shared|preemptible|committed|compute)\b"
)
_MEMORY = re.compile(r"\b(\d{1,4}) ?g(?:i?b)?\b")
_FORM = re.compile(r"\b(sxm|pcie?|nvl|oam|server|workstation|max ?q|fhhl)\d?\b")
_FORMS = {
    "sxm": "SXM",
    "pci": "PCIe",
    "pcie": "PCIe",
    "nvl": "NVL",
    "oam": "OAM",
    "server": "Server",
    "workstation": "Workstation",
    "maxq": "Max-Q",
    "fhhl": "FHHL",
}
_MIG = re.compile(r"\b(?:mig )?(\d{1,2})g[ .](\d{1,4})gb\b")
_SHARE = re.compile(r"[- _](?:mig[- _])?\d{1,2}g[._]\d{1,4}gb|[- _]shared\b", re.IGNORECASE)
_FAMILY_WORD = re.compile(r"^(?:rtx|gtx|rx) ", re.IGNORECASE)


class Words(Struct, frozen=True):
    """What a name says in so many words."""

    rests: tuple[str, ...]
    """What may be the model's spelling, squashed, most likely first."""
    form: str = ""
    memory_gb: float | None = None


class MigProfile(Struct, frozen=True):
    """A slice of a card: "3g.20gb"."""

    slices: int
    memory_gb: float


def squash(text: str) -> str:
    """Without case, spaces and punctuation."""
    return "".join(filter(str.isalnum, text.casefold()))


def words(text: str) -> Words:
    """Memory and form are taken out of a name, vendor words dropped; the rest names the model."""
    clean = _MIG.sub(" ", clean_words(text))
    memory = _MEMORY.search(clean)
    bare = _MEMORY.sub(" ", clean)
    form = _FORM.search(bare)
    # A form word may be part of the spelling.
    rests = (squash(_FORM.sub(" ", bare)), squash(bare))
    return Words(
        rests,
        _FORMS[form[1].replace(" ", "")] if form else "",
        float(memory[1]) if memory else None,
    )


def clean_words(text: str) -> str:
    """Lower case, spaces for punctuation, without vendor words."""
    return _NOISE.sub(" ", _spaced(text))


def mig_profile(text: str) -> MigProfile | None:
    """The slice that a name speaks of, None for a whole card."""
    match = _MIG.search(_spaced(text))
    return MigProfile(int(match[1]), float(match[2])) if match else None


def whole_card(text: str) -> str:
    """The name without the words for a slice or a shared card."""
    return _SHARE.sub("", text)


def short_forms(name: str) -> Iterator[str]:
    """How people shorten a canonical name."""
    yield clean_words(name)
    bare = _FAMILY_WORD.sub("", name)
    yield bare
    for full in (name, bare):
        if full.endswith("SUPER"):
            # "RTX 4070 Ti SUPER" is sold as 4070S Ti, 4070 Ti S and 4070 Ti Super.
            yield full.replace("SUPER", "S")
            yield re.sub(r"( Ti)? SUPER", r"S\1", full)


def _spaced(text: str) -> str:
    return re.sub(r"[^\w.+]|_", " ", text.casefold())
