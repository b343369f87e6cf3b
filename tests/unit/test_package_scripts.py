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
