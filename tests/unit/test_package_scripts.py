"""The packages' scripts: what they do in the folders that a service's user may write to, without a package."""

import os
import subprocess
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "packaging" / "scripts"
APART = 'upkeep() { echo upkeep "$@"; }\nunlink_healthcheck() { :; }\n'
"""Instead of what touches the machine."""
LIMIT_S = 20


def script(package: str, prefix: Path, *lines: str) -> str:
    """What these lines print after the functions of a package's scripts, on a machine that has only this prefix."""
    sources = [(SCRIPTS / name).read_text() for name in ("functions.sh", f"{package}.sh")]
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
