"""An imaginary cloud whose every capability is a switch, and a provider on it."""

from gpubroker.testing.clock import ManualClock
from gpubroker.testing.cloud import Call, FakeCloud
from gpubroker.testing.faults import FAULTS, Crashed, Fault, FaultKind
from gpubroker.testing.machines import FakeMachine, FakeResource, Span
from gpubroker.testing.provider import FakeProvider
from gpubroker.testing.switches import SWITCHES, Switches

__all__ = [
    "FAULTS",
    "SWITCHES",
    "Call",
    "Crashed",
    "FakeCloud",
    "FakeMachine",
    "FakeProvider",
    "FakeResource",
    "Fault",
    "FaultKind",
    "ManualClock",
    "Span",
    "Switches",
]
