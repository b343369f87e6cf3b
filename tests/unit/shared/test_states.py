"""The table of names is libvirt's own: compared with the constants of libvirt's Python binding."""

import libvirt
import pytest

from vmwatch.shared import states
from vmwatch.shared.states import LIFECYCLE, State, lifecycle_names, state_of_event, state_of_libvirt

PREFIX = "VIR_DOMAIN_EVENT_"


@pytest.mark.parametrize(("number", "entry"), list(enumerate(LIFECYCLE)))
def test_each_lifecycle_event_and_detail_has_libvirts_number(number: int, entry: tuple[str, tuple[str, ...]]) -> None:
    name, details = entry
    assert getattr(libvirt, PREFIX + name.upper()) == number
    for detail_number, detail in enumerate(details):
        assert getattr(libvirt, f"{PREFIX}{name.upper()}_{detail.upper()}") == detail_number


def test_no_lifecycle_event_or_detail_of_libvirt_is_missing() -> None:
    known = {PREFIX + name.upper() for name, _ in LIFECYCLE}
    known |= {f"{PREFIX}{name.upper()}_{detail.upper()}" for name, details in LIFECYCLE for detail in details}
    ours = tuple(PREFIX + name.upper() for name, _ in LIFECYCLE)
    other_enums = ("VIR_DOMAIN_EVENT_ID_", "VIR_DOMAIN_EVENT_DISK_", "VIR_DOMAIN_EVENT_CRASHED_")
    libvirts = {name for name in dir(libvirt) if name.startswith(ours) and not name.startswith(other_enums[:2])}
    assert libvirts <= known


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (states.WATCHDOG_ACTIONS, "VIR_DOMAIN_EVENT_WATCHDOG_"),
        (states.IO_ERROR_ACTIONS, "VIR_DOMAIN_EVENT_IO_ERROR_"),
        (states.MEMORY_FAILURE_ACTIONS, "VIR_DOMAIN_EVENT_MEMORY_FAILURE_ACTION_"),
    ],
)
def test_actions_have_libvirts_numbers(names: tuple[str, ...], prefix: str) -> None:
    for number, name in enumerate(names):
        assert getattr(libvirt, prefix + name.upper()) == number


def test_numbers_of_a_newer_libvirt_keep_their_number() -> None:
    assert lifecycle_names(99, 3) == ("event_99", "detail_3")
    assert lifecycle_names(0, 99) == ("defined", "detail_99")
    assert lifecycle_names(-1, 0) == ("event_-1", "detail_0")


@pytest.mark.parametrize(
    ("event", "state"),
    [
        ("started", State.RUNNING),
        ("resumed", State.RUNNING),
        ("suspended", State.PAUSED),
        ("stopped", State.SHUTOFF),
        ("crashed", State.CRASHED),
        ("pmsuspended", State.PMSUSPENDED),
        ("shutdown", State.IN_SHUTDOWN),
        ("defined", None),
        ("undefined", None),
        ("reboot", None),
    ],
)
def test_the_state_follows_from_the_event(event: str, state: State | None) -> None:
    assert state_of_event(event) is state


def test_libvirts_states_have_their_numbers() -> None:
    assert state_of_libvirt(libvirt.VIR_DOMAIN_NOSTATE) is State.UNKNOWN
    assert state_of_libvirt(libvirt.VIR_DOMAIN_RUNNING) is State.RUNNING
    assert state_of_libvirt(libvirt.VIR_DOMAIN_BLOCKED) is State.RUNNING
    assert state_of_libvirt(libvirt.VIR_DOMAIN_PAUSED) is State.PAUSED
    assert state_of_libvirt(libvirt.VIR_DOMAIN_SHUTDOWN) is State.IN_SHUTDOWN
    assert state_of_libvirt(libvirt.VIR_DOMAIN_SHUTOFF) is State.SHUTOFF
    assert state_of_libvirt(libvirt.VIR_DOMAIN_CRASHED) is State.CRASHED
    assert state_of_libvirt(libvirt.VIR_DOMAIN_PMSUSPENDED) is State.PMSUSPENDED
    assert state_of_libvirt(77) is State.UNKNOWN
