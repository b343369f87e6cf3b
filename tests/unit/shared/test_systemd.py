"""systemd as a manager: what `systemctl show` printed (systemd 252, recorded), and which commands are called."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.shared.services import ServiceError, ServiceState
from vmwatch.shared.systemd import SHOWN, Systemd, parse_show, status_of

NOTHING = """\
MainPID=0
StatusText=
Result=success
ExecMainStatus=0
LoadState=loaded
ActiveState=inactive
SubState=dead
UnitFileState=enabled
ConditionResult=no
ConditionTimestampMonotonic=0
"""
WAITS = """\
MainPID=26
StatusText=waits for libvirt at qemu:///system, 1 messages in the outbox
Result=success
ExecMainStatus=0
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
ConditionResult=yes
ConditionTimestampMonotonic=36515148904
"""
KILLED = """\
MainPID=0
StatusText=waits for libvirt at qemu:///system, 1 messages in the outbox
Result=signal
ExecMainStatus=9
LoadState=loaded
ActiveState=activating
SubState=auto-restart
UnitFileState=enabled
ConditionResult=yes
ConditionTimestampMonotonic=36515148904
"""
WRONG = """\
MainPID=0
StatusText=
Result=exit-code
ExecMainStatus=78
LoadState=loaded
ActiveState=failed
SubState=failed
UnitFileState=enabled
ConditionResult=yes
ConditionTimestampMonotonic=36516797054
"""
CASES = {
    "unknown": (NOTHING.replace("=loaded", "=not-found"), ServiceState.MISSING, 0, "systemd has no unit of this name"),
    "never started": (NOTHING, ServiceState.STOPPED, 0, "inactive (dead)"),
    "not configured": (
        NOTHING.replace("Monotonic=0", "Monotonic=7"),
        ServiceState.STOPPED,
        0,
        "inactive (dead), not configured, or another condition of its unit is not met",
    ),
    "waits": (
        WAITS,
        ServiceState.RUNNING,
        26,
        "active (running), waits for libvirt at qemu:///system, 1 messages in the outbox",
    ),
    "reloads": (WAITS.replace("=active", "=reloading"), ServiceState.RUNNING, 26, None),
    "starts": (WAITS.replace("=active", "=activating"), ServiceState.STARTING, 26, None),
    "stops": (WAITS.replace("=active", "=deactivating"), ServiceState.STOPPING, 26, None),
    "killed": (KILLED, ServiceState.STARTING, 0, "activating (auto-restart), signal, exit code 9"),
    "disabled": (
        NOTHING.replace("StatusText=", "StatusText=disabled: disabled=yes in /f"),
        ServiceState.ENDED,
        0,
        "inactive (dead), disabled: disabled=yes in /f",
    ),
    "wrong configuration": (WRONG, ServiceState.ENDED, 0, "failed (failed), exit-code, exit code 78"),
    "defect": (WRONG.replace("78", "70"), ServiceState.FAILED, 0, "failed (failed), exit-code, exit code 70"),
    "masked": (NOTHING.replace("=loaded", "=masked"), ServiceState.FAILED, 0, "inactive (dead), its unit is masked"),
    "says nothing": ("", ServiceState.FAILED, 0, None),
}


@pytest.mark.parametrize("case", CASES)
def test_a_state_is_what_systemd_printed_in_our_words(case: str) -> None:
    printed, state, pid, text = CASES[case]
    found = status_of(parse_show(printed))
    assert (found.state, found.pid) == (state, pid)
    if text is not None:
        assert found.text == text


@given(
    st.dictionaries(
        st.sampled_from(SHOWN),
        st.sampled_from(["", "loaded", "not-found", "active", "failed", "inactive", "0", "78", "-1", "disabled", "no"])
        | st.text(max_size=8),
    )
)
def test_whatever_a_later_systemd_prints_is_some_state_and_only_a_process_is_up(shown: dict[str, str]) -> None:
    found = status_of(shown)
    assert found.pid >= 0
    assert not found.is_up or shown["LoadState"] == "loaded"


class Recording:
    """A `systemctl` that notes how it was called, prints what it is told to and ends so."""

    def __init__(self, folder: Path) -> None:
        self.noted, self.shows = folder / "noted", folder / "shows"
        self.noted.touch()
        self.shows.write_text(NOTHING)
        self.path = folder / "systemctl"
        self.ends(0)
        self.manager = Systemd((str(self.path),))

    def ends(self, code: int, text: str = "") -> None:
        """How all but `show` end from now on."""
        script = f"""#!/bin/sh
echo "$@" >>{self.noted}
case "$3" in show) cat {self.shows} ;; *) echo "{text}" >&2; exit {code} ;; esac
"""
        self.path.write_text(script)
        self.path.chmod(0o755)

    def verbs(self) -> list[str]:
        """What was called, but for `show`, without the options that each has."""
        lines = self.noted.read_text().splitlines()
        assert all(line.startswith("--no-ask-password --no-pager ") for line in lines)
        return [line.split(maxsplit=2)[2] for line in lines if " show " not in line]


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path)


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "reload"])
def test_each_of_its_calls_is_the_verb_of_that_name(recording: Recording, verb: str) -> None:
    getattr(recording.manager, verb)("vmwatch-node")
    assert recording.verbs() == [f"{verb} -- vmwatch-node.service"]


def test_what_is_enabled_already_is_not_enabled_again_because_that_needs_rights(recording: Recording) -> None:
    recording.manager.enable("vmwatch-node")
    assert recording.verbs() == []
    recording.shows.write_text(NOTHING.replace("=enabled", "=disabled"))
    recording.manager.enable("vmwatch-node")
    assert recording.verbs() == ["enable -- vmwatch-node.service"]


def test_disabling_stops_it_too(recording: Recording) -> None:
    recording.manager.disable("vmwatch-node")
    assert recording.verbs() == ["stop -- vmwatch-node.service", "disable -- vmwatch-node.service"]


def test_what_systemd_does_not_know_is_neither_stopped_nor_enabled(recording: Recording) -> None:
    recording.shows.write_text(NOTHING.replace("=loaded", "=not-found"))
    recording.manager.stop("vmwatch-node")
    recording.manager.disable("vmwatch-node")
    with pytest.raises(ServiceError, match=r"no unit vmwatch-node\.service; the package brings it"):
        recording.manager.enable("vmwatch-node")
    assert recording.verbs() == []


def test_a_refusal_is_told_with_systemd_s_words_and_the_state(recording: Recording) -> None:
    recording.ends(4, "Failed to start vmwatch-node.service: Access denied")
    with pytest.raises(ServiceError, match=r"could not be started by systemd: Failed .* Access denied; inactive"):
        recording.manager.start("vmwatch-node")


def test_without_systemctl_the_error_names_it(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="systemctl cannot be run: No such file"):
        Systemd((str(tmp_path / "systemctl"),)).status("vmwatch-node")


def test_a_systemctl_that_hangs_is_given_up(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    recording.path.write_text("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr("vmwatch.shared.systemd.CALL_LIMIT_S", 0.2)
    with pytest.raises(ServiceError, match=r"did not end within 0\.2 s"):
        recording.manager.start("vmwatch-node")
    children = ["ps", "-o", "args=", "--ppid", str(os.getpid())]
    assert "sleep 600" not in subprocess.run(children, capture_output=True, text=True, check=False).stdout
