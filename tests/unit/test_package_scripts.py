"""The packages' scripts: what they do in the folders that a service's user may write to, without a package."""

import os
import subprocess
from pathlib import Path

import pytest

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
APART = 'upkeep() { echo upkeep "$@"; }\nunlink_healthcheck() { :; }\n'
"""Instead of what touches the machine."""
LIMIT_S = 20


def script(package: str, prefix: Path, *lines: str) -> str:
    """What these lines print after the functions of a package's scripts, on a machine that has only this prefix."""
    sources = [(PACKAGING / "scripts" / name).read_text() for name in ("functions.sh", f"{package}.sh")]
    text = "\n".join(["set -eu", *sources, f"PREFIX={prefix} HOST_FILE={prefix}/none", APART, *lines])
    done = subprocess.run(["sh"], input=text, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    return done.stdout


def test_a_removal_does_not_wait_for_a_fifo_in_place_of_the_lock_of_a_configuration(tmp_path: Path) -> None:
    run = tmp_path / "var" / "run"
    run.mkdir(parents=True)
    os.mkfifo(run / "vmwatch-nodectl.lock")
    assert script("node", tmp_path, "before_remove") == "upkeep node stop vmwatch-node\n"
    (run / "vmwatch-nodectl.lock").rename(run / "fifo")
    (run / "vmwatch-nodectl.lock").symlink_to("fifo")
    assert script("node", tmp_path, "before_remove") == "upkeep node stop vmwatch-node\n"


def test_a_purge_keeps_the_folders_that_the_other_package_needs_and_the_last_one_removes_them(tmp_path: Path) -> None:
    made = [tmp_path / name for name in ("etc", "var/run", "conf.d", "lib/vmwatch-node")]
    for folder in made:
        folder.mkdir(parents=True)
    remove = ("find_folders", "remove_empty_folders nobody")
    script("master", tmp_path, *remove)
    assert all(folder.is_dir() for folder in made)
    script("node", tmp_path, "remove_programs", *remove)
    assert not tmp_path.exists()


def postinst(prefix: Path, *arguments: str, prepared: bool = True) -> str:
    """What Debian's script does with these arguments; `prepared`: whether it gets as far as the services."""
    text = (PACKAGING / "deb" / "postinst").read_text()
    prepare = f"prepare() {{ {'true' if prepared else 'exit 0'}; }}"
    words = " ".join(f"'{word}'" for word in arguments)
    return script(
        "node", prefix, f"INSTALLING={prefix}/mark", "has_systemd() { false; }", prepare, f"set -- {words}", text
    )


INSTALLED, UPGRADED = "upkeep node start vmwatch-node\n", "upkeep node restart vmwatch-node\n"


def test_a_first_installation_that_was_interrupted_is_still_one_also_where_its_mark_is_lost(tmp_path: Path) -> None:
    assert postinst(tmp_path, "configure", "") == INSTALLED
    assert postinst(tmp_path, "configure", "0.1.0-1") == UPGRADED


def test_an_installation_after_a_removal_is_one_until_it_has_come_to_its_end(tmp_path: Path) -> None:
    mark = tmp_path / "mark-node"
    mark.touch()
    assert postinst(tmp_path, "configure", "0.1.0-1", prepared=False) == ""
    assert postinst(tmp_path, "configure", "0.1.0-1") == INSTALLED
    assert not mark.exists()
    assert postinst(tmp_path, "configure", "0.1.0-1") == UPGRADED


def test_a_removal_that_is_given_up_brings_the_services_back(tmp_path: Path) -> None:
    assert postinst(tmp_path, "abort-remove") == INSTALLED
    assert postinst(tmp_path, "abort-upgrade", "9.9.9") == ""


def master(prefix: Path, *lines: str, booted: bool = True, allowed: bool = True) -> list[str]:
    """What the master's script has systemctl do. `booted`: with systemd; `allowed`: by the policy of the machine."""
    (prefix / "lib" / "vmwatch-master").mkdir(parents=True, exist_ok=True)
    said = (
        f"has_systemd() {{ {str(booted).lower()}; }}",
        f"may_start() {{ {str(allowed).lower()}; }}",
        "prepare() { :; }",
    )
    known = (f"ENABLED={prefix}/lib/vmwatch-master/enabled-units", "UNITS=vmwatch-x.timer")
    disabled = prefix / "disabled"
    systemctl = f'systemctl() {{ case $* in *is-enabled*) ! [ -e {disabled} ] ;; *) echo "$*" ;; esac; }}'
    printed = script("master", prefix, *said, *known, systemctl, *lines)
    return [line.removeprefix("--quiet ") for line in printed.splitlines() if not line.startswith("upkeep")]


def test_an_upgrade_leaves_a_unit_that_an_administrator_has_disabled(tmp_path: Path) -> None:
    assert master(tmp_path, "after_install") == ["enable vmwatch-x.timer", "start vmwatch-x.timer"]
    assert master(tmp_path, "after_upgrade") == ["start vmwatch-x.timer"]
    (tmp_path / "disabled").touch()
    assert master(tmp_path, "after_upgrade") == []


def test_an_upgrade_enables_a_unit_that_is_new_and_an_installation_after_a_removal_all(tmp_path: Path) -> None:
    (tmp_path / "lib" / "vmwatch-master").mkdir(parents=True)
    assert master(tmp_path, "after_install", "UNITS=vmwatch-new.socket", "after_upgrade")[2:] == [
        "enable vmwatch-new.socket",
        "start vmwatch-new.socket",
    ]
    assert "enable vmwatch-x.timer" in master(tmp_path, "before_remove", "after_install")


@pytest.mark.parametrize(("booted", "allowed"), [(False, True), (True, False)])
def test_where_nothing_may_be_started_units_and_the_panel_are_enabled_for_the_next_boot(
    tmp_path: Path, booted: bool, allowed: bool
) -> None:
    told = master(tmp_path, "after_install", booted=booted, allowed=allowed)
    assert told == ["enable vmwatch-x.timer", "enable vmwatch-panel.service"]


@pytest.mark.parametrize("installed", [1, 2])
def test_on_el9_programs_have_their_labels_before_a_service_is_started(tmp_path: Path, installed: int) -> None:
    text = (PACKAGING / "rpm" / "post").read_text()
    apart = ("label_files() { echo label; }", "prepare() { :; }", "has_systemd() { false; }", f"set -- {installed}")
    told = script("node", tmp_path, *apart, text).splitlines()
    assert [line.split()[0] for line in told] == ["label", "upkeep"]
