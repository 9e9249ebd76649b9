"""What happens during a launch or an end, line by line, for the person who waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gpubroker.cli.words import price

if TYPE_CHECKING:
    from gpubroker.cli.session import Session
    from gpubroker.fleet.requests import Event

Told = Mapping[str, Any]


def _of(told: Told, key: str, before: str = "", behind: str = "") -> str:
    value = told.get(key)
    return f"{before}{value}{behind}" if value not in (None, "") else ""


def _where(told: Told) -> str:
    return " ".join(str(told[key]) for key in ("provider", "offer") if told.get(key))


LINES: dict[str, tuple[str, Callable[[Told], str]]] = {
    "attempt_started": (
        "·",
        lambda told: f"{_where(told)} asked for, {price(told.get('price'))}/h",
    ),
    "attempt_delayed": ("·", lambda told: f"not sent yet: {told.get('reason', '')}"),
    "attempt_refused": ("✗", lambda told: f"{_where(told)}  {told.get('reason', '')}"),
    "attempt_failed": ("✗", lambda told: f"{_where(told)}  {told.get('reason', '')}; given back"),
    "attempt_unknown": (
        "?",
        lambda told: f"no answer ({told.get('reason', '')}); looking whether the machine exists",
    ),
    "attempt_absent": ("✗", lambda told: f"it was not made: {told.get('reason', '')}"),
    "attempt_created": (
        "✓",
        lambda told: f"{told.get('provider', '')} accepted{_of(told, 'provider_id', ': ')}",
    ),
    "phase": ("·", lambda told: f"{told.get('phase', '')}{_of(told, 'detail', ': ')}"),
    "waiting": (
        "·",
        lambda told: f"waiting for {told.get('what', '')}{_of(told, 'seconds', ', about ', ' s')}",
    ),
    "ready": ("✓", lambda told: f"ready{_of(told, 'detail', ': ')}"),
    "terminate_accepted": ("✓", lambda told: f"{told.get('provider', '')} accepted the end"),
    "gone": ("✓", lambda told: f"gone at {told.get('provider', '')}, seen there"),
    "delete_overdue": ("!", lambda told: f"not gone after {told.get('seconds')} s: still asking"),
    "expired": ("!", lambda told: f"its time was over{_of(told, 'why', ': ')}"),
    "preempted": ("!", lambda told: f"taken away by the cloud{_of(told, 'reason', ': ')}"),
    "lost": ("!", lambda told: f"ended at the cloud by somebody else{_of(told, 'reason', ': ')}"),
    "never_seen": (
        "!",
        lambda told: (
            f"{told.get('provider')} said that it made {told.get('provider_id')}, and never showed "
            "it: look whether another account of yours has it"
        ),
    ),
    "waiting_for_stock": (
        "·",
        lambda told: (
            f"nothing to be had ({told.get('why', '')}); planned anew soon, Ctrl-C leaves "
            "it waiting"
        ),
    ),
    "planned_anew": ("·", lambda told: f"planned anew: {told.get('offers')} offers"),
    "replacing": (
        "!",
        lambda told: (
            f"taken away by {told.get('provider', '')}{_of(told, 'reason', ': ')}; "
            f"replaced{' on demand' if told.get('on_demand') else ''}"
        ),
    ),
    "given_up": ("!", lambda told: f"taken away and given up{_of(told, 'reason', ': ')}"),
    "ignored_field": ("!", lambda told: str(told.get("what", ""))),
    "alert": ("!", lambda told: str(told.get("message") or told.get("why") or "")),
    "account_frozen": ("!", lambda told: str(told.get("why", ""))),
    "configuration_refused": ("!", lambda told: str(told.get("why", ""))),
    "gpu_models_refused": ("!", lambda told: str(told.get("why", ""))),
}
"""Kind of event -> mark and words. What is not listed is bookkeeping and not shown."""
COLOURS = {"✓": "green", "✗": "red", "!": "yellow", "?": "yellow"}


class Progress:
    """Shows events on stderr, with the seconds since the last one that was shown."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._before: Event | None = None
        self._last = ""

    def __call__(self, event: Event) -> None:
        """A line, unless it says again what the last one said."""
        if event.kind not in LINES:
            return
        mark, words = LINES[event.kind]
        text = words(event.data)
        if text == self._last:
            return
        took = (event.at - self._before.at).total_seconds() if self._before else 0.0
        self._before, self._last = event, text
        colour = COLOURS.get(mark)
        shown = self._session.styled(mark, to_stderr=True, fg=colour) if colour else mark
        self._session.say(f"  {shown} {text}" + (f"   {took:.1f}s" if took >= 0.1 else ""))  # noqa: PLR2004 - a tenth, as shown
