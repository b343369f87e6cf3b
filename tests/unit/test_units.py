"""The unit files and the System V scripts as files: what they say, and what systemd-analyze says of them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vmwatch.shared.exits import Exit
from vmwatch.shared.paths import DEFAULT_PREFIX
from vmwatch.shared.services import SERVICES

PACKAGING = Path(__file__).parents[2] / "packaging"
UNITS = sorted((PACKAGING / "systemd").glob("*.*"))
SERVICE_UNITS = [unit for unit in UNITS if unit.suffix == ".service"]
SCRIPTS = sorted((PACKAGING / "sysv").iterdir())
EXPOSURE_MOST = 20
"""Tenths, as systemd-analyze's --threshold wants them."""
USERS = {"vmwatch-master": "vmwatch", "vmwatch-node": "vmwatch-node", "vmwatch-panel": "vmwatch"}
needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and not os.environ.get("CI"), reason="systemd-analyze is not installed"
)


def values(unit: Path, name: str) -> list[str]:
    """All values of one setting, split at blanks."""
    return [word for text in re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE) for word in text.split()]


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@needs_analyze
def test_systemd_finds_nothing_wrong_in_the_units(tmp_path: Path) -> None:
    """Where the programs are is told, as they are not installed here."""
    for unit in UNITS:
        text = unit.read_text().replace(f"{DEFAULT_PREFIX}/lib/vmwatch/bin", str(Path(sys.executable).parent))
        (tmp_path / unit.name).write_text(text)
    done = analyze("verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS))
    of_ours = [line for line in done.stderr.splitlines() if "vmwatch" in line]
    assert (done.returncode, of_ours) == (0, []), done.stderr


@needs_analyze
@pytest.mark.parametrize("unit", SERVICE_UNITS, ids=lambda unit: unit.stem)
def test_a_service_is_exposed_to_no_more_than_2(unit: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE_MOST}", str(unit))
    assert done.returncode == 0, done.stdout


def test_the_node_is_ordered_after_both_of_libvirt_s_daemons_and_requires_neither() -> None:
    unit = PACKAGING / "systemd" / "vmwatch-node.service"
    assert {"libvirtd.service", "virtqemud.service"} <= set(values(unit, "After"))
    for name in ("Requires", "Requisite", "BindsTo", "PartOf", "Wants", "Upholds"):
        assert not [found for found in values(unit, name) if "virt" in found]
    header = headers(PACKAGING / "sysv" / "vmwatch-node")
    assert {"libvirtd", "virtqemud"} <= set(header["Should-Start"])
    assert not [found for found in header["Required-Start"] if "virt" in found]


@pytest.mark.parametrize("service", SERVICES)
def test_a_unit_says_of_each_exit_code_what_the_program_means_by_it(service: str) -> None:
    unit = PACKAGING / "systemd" / f"{service}.service"
    assert values(unit, "Type") == ["notify"]
    assert values(unit, "WatchdogSec")
    assert values(unit, "StartLimitIntervalSec") == ["0"]
    assert values(unit, "Restart") == ["on-failure"]
    assert values(unit, "RestartPreventExitStatus") == [str(int(Exit.USAGE)), str(int(Exit.CONFIGURATION))]
    lost = [str(int(Exit.LIBVIRT_LOST))] if service == "vmwatch-node" else []
    assert values(unit, "RestartForceExitStatus") == values(unit, "SuccessExitStatus") == lost


@pytest.mark.parametrize("service", SERVICES)
def test_units_and_scripts_start_the_same_program_as_the_same_user_who_is_not_root(service: str) -> None:
    unit, script = PACKAGING / "systemd" / f"{service}.service", (PACKAGING / "sysv" / service).read_text()
    assert values(unit, "User") == values(unit, "Group") == [USERS[service]]
    assert values(unit, "ExecStart") == [f"{DEFAULT_PREFIX}/lib/vmwatch/bin/{service}"]
    assert f"PROGRAM={service}\nRUN_AS={USERS[service]}\n" in script
    assert f"PREFIX={DEFAULT_PREFIX}\n" in script


def test_the_timers_start_the_checks_that_cron_starts() -> None:
    cron = (PACKAGING / "cron" / "vmwatch").read_text()
    for what, minutes, calendar in (("master", "7", "*:07"), ("node", "*/5", "*:0/5")):
        assert values(PACKAGING / "systemd" / f"vmwatch-periodic-{what}.timer", "OnCalendar") == [calendar]
        line = rf"^{re.escape(minutes)} \* \* \* \* .*vmwatch-periodic --if-configured {what}$"
        assert re.search(line, cron, re.MULTILINE)
        service = PACKAGING / "systemd" / f"vmwatch-periodic-{what}.service"
        assert values(service, "ExecStart") == [f"{DEFAULT_PREFIX}/lib/vmwatch/bin/vmwatch-periodic", what]


def headers(script: Path) -> dict[str, list[str]]:
    """The header of the Linux Standard Base."""
    block = script.read_text().partition("### BEGIN INIT INFO\n")[2].partition("### END INIT INFO")[0]
    return {name: value.split() for name, value in re.findall(r"^# ([\w-]+): +(.*)$", block, re.MULTILINE)}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_has_the_header_of_the_linux_standard_base(script: Path) -> None:
    found = headers(script)
    assert found["Provides"] == [script.name]
    assert found["Default-Start"] == ["2", "3", "4", "5"]
    assert found["Default-Stop"] == ["0", "1", "6"]
    assert found["Short-Description"]
    assert {"Required-Start", "Required-Stop", "Should-Start", "Should-Stop", "Description"} <= found.keys()
    assert os.access(script, os.X_OK)
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0


def test_the_scripts_are_one_script_with_other_names() -> None:
    bodies = set()
    for script in SCRIPTS:
        body = script.read_text().partition("\nCONFIGURATION=")[2].partition("\n")[2]
        bodies.add(re.sub(r"(# Nobody here[^\n]*\n)?OPTIONS=[^\n]*", "OPTIONS=", body))
    assert len(bodies) == 1


def test_at_boot_the_panel_comes_first_and_the_node_last_and_at_the_end_the_other_way() -> None:
    """The numbers are Red Hat's; Debian's order follows from the headers."""
    orders = {
        script.name: re.findall(r"^# chkconfig: 2345 (\d\d) (\d\d)$", script.read_text(), re.MULTILINE)[0]
        for script in SCRIPTS
    }
    assert sorted(SERVICES, key=lambda name: orders[name][0]) == ["vmwatch-panel", "vmwatch-master", "vmwatch-node"]
    assert sorted(SERVICES, key=lambda name: orders[name][1]) == ["vmwatch-node", "vmwatch-master", "vmwatch-panel"]


def test_by_their_headers_a_script_comes_after_whom_it_sends_to_and_ends_before() -> None:
    for before, after in (("vmwatch-panel", "vmwatch-master"), ("vmwatch-master", "vmwatch-node")):
        found = headers(PACKAGING / "sysv" / after)
        assert before in found["Should-Start"]
        assert before in found["Should-Stop"]
