"""Which service manager is taken, on machines that have the one or the other (folders and programs of their own)."""

from pathlib import Path

import pytest

from vmwatch.shared import services, systemd, sysv
from vmwatch.shared.paths import Paths
from vmwatch.shared.services import ServiceError, ServiceManager, find_manager

SHOWS = "LoadState={}\\nActiveState=inactive\\nSubState=dead\\nMainPID=0\\n"


class Here:
    """A machine: nothing answers, no systemd runs, and there is no script, until the test says so."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.booted, self.scripts, self.bin = folder / "booted", folder / "init.d", folder / "bin"
        self.scripts.mkdir()
        self.bin.mkdir()
        self.paths = Paths.of("vmwatch-node", str(folder / "p"))
        monkeypatch.setattr(systemd, "BOOTED", self.booted)
        monkeypatch.setattr(sysv, "SCRIPTS", self.scripts)
        monkeypatch.setattr(services, "SYSTEM_SOCKETS", (folder / "supervisor.sock",))
        monkeypatch.delenv(services.SERVER_VARIABLE, raising=False)
        monkeypatch.setenv("PATH", f"{self.bin}:/usr/bin:/bin")

    def program(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def with_systemd(self, *, unit: bool) -> None:
        self.booted.mkdir()
        self.program("systemctl", f"printf '{SHOWS.format('loaded' if unit else 'not-found')}'")

    def with_sysv(self, *, script: bool) -> None:
        self.program("service", "exit 3")
        if script:
            (self.scripts / "vmwatch-node").touch()

    def find(self, choice: str = "") -> ServiceManager:
        return find_manager(self.paths, choice)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    return Here(tmp_path, monkeypatch)


def test_without_any_the_error_says_what_was_looked_for_and_what_is_supported(here: Here) -> None:
    with pytest.raises(ServiceError) as raised:
        here.find()
    for word in ("supervisord does not answer at", "systemd does not run here", "supervisord, systemd, sysv"):
        assert word in str(raised.value)


def test_systemd_with_our_unit_is_found(here: Here) -> None:
    here.with_systemd(unit=True)
    here.with_sysv(script=True)
    assert here.find().name == "systemd"


def test_system_v_is_found_by_our_script_also_where_systemd_lacks_the_unit(here: Here) -> None:
    here.with_systemd(unit=False)
    here.with_sysv(script=True)
    assert here.find().name == "System V"


def test_what_runs_and_does_not_know_us_is_not_taken_but_named(here: Here) -> None:
    here.with_systemd(unit=False)
    here.with_sysv(script=False)
    with pytest.raises(ServiceError) as raised:
        here.find()
    assert "systemd does not know vmwatch-node" in str(raised.value)
    assert "System V does not know vmwatch-node" in str(raised.value)


def test_what_the_setting_names_is_taken_though_another_would_be_found(here: Here) -> None:
    here.with_systemd(unit=True)
    here.with_sysv(script=False)
    assert here.find("sysv").name == "System V"
    assert here.find("systemd").name == "systemd"


def test_what_the_setting_names_and_is_not_here_is_an_error_that_names_it(here: Here) -> None:
    with pytest.raises(ServiceError, match="systemd does not run here"):
        here.find("systemd")
    with pytest.raises(ServiceError, match="supervisord does not answer at /nowhere"):
        here.find("supervisord:/nowhere")
