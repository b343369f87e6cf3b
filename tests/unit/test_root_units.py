"""The units that stand for sudo: systemd takes them, and they leave root no more than the services have."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.testbed.daemon import needed_programs
from vmwatch.shared.paths import DEFAULT_PREFIX

FOLDER = Path(__file__).resolve().parents[2] / "packaging" / "systemd"
BIN = f"{DEFAULT_PREFIX}/lib/vmwatch/bin"
NAMES = ("vmwatch-nodectl", "vmwatch-servicectl")
WORST_EXPOSURE = 2.0

pytestmark = pytest.mark.skipif(bool(needed_programs("systemd-analyze")), reason=needed_programs("systemd-analyze"))


def analyze(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_systemd_finds_nothing_wrong_with_socket_and_service(name: str, tmp_path: Path) -> None:
    for unit in (f"{name}.socket", f"{name}@.service"):
        text = (FOLDER / unit).read_text().replace(f"{BIN}/{name}", "/bin/true")  # it is not installed here
        (tmp_path / unit).write_text(text)
    done = analyze("verify", str(tmp_path / f"{name}.socket"), str(tmp_path / f"{name}@.service"))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_to_root_is_little(name: str) -> None:
    told = analyze("security", "--offline=true", str(FOLDER / f"{name}@.service")).stdout
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", told)
    assert found is not None, told
    assert float(found[1]) <= WORST_EXPOSURE
