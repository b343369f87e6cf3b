"""packaging/selinux: every file of ours has a type, nobody else's has, and the commands are those of semanage."""

import re
import subprocess
from pathlib import Path

import pytest

from vmwatch.shared.paths import DEFAULT_PREFIX, Paths

FOLDER = Path(__file__).resolve().parents[2] / "packaging" / "selinux"
LINE = re.compile(r"semanage fcontext --add --type (\w+) '(.+)'")
NODE = Paths(Path(DEFAULT_PREFIX), "vmwatch-node")


def contexts(prefix: str = DEFAULT_PREFIX) -> list[tuple[str, str]]:
    """(type, pattern), in their order."""
    shown = subprocess.run([FOLDER / "contexts", "show", prefix], capture_output=True, text=True, check=True).stdout
    *lines, restore = shown.splitlines()
    assert restore == f"restorecon -R {prefix}"
    return [found.groups() for found in map(LINE.fullmatch, lines) if found]  # type: ignore[misc]


def type_of(path: Path | str) -> str:
    """The last that fits counts, as for semanage's own."""
    return next((kind for kind, pattern in reversed(contexts()) if re.fullmatch(pattern, str(path))), "")


def test_every_line_of_the_table_is_a_command() -> None:
    lines = [line for line in (FOLDER / "vmwatch.fc").read_text().splitlines() if line.startswith("@PREFIX@")]
    assert len(contexts()) == len(lines) > 5


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (NODE.config, "etc_t"),
        (NODE.etc / "vmwatch-ssh-key", "etc_t"),
        (NODE.database, "var_lib_t"),
        (NODE.log, "var_log_t"),
        (f"{NODE.log}.1.gz", "var_log_t"),
        (NODE.pid, "var_run_t"),
        (NODE.socket, "var_run_t"),
        (f"{DEFAULT_PREFIX}/lib/vmwatch/bin/vmwatch-node", "bin_t"),
        (f"{DEFAULT_PREFIX}/lib/vmwatch-node/bin/python3", "bin_t"),
        (f"{DEFAULT_PREFIX}/etc/vmmgr.conf", ""),
        (f"{DEFAULT_PREFIX}/var/vmmgr.log", ""),
        (f"{DEFAULT_PREFIX}/bin/core", ""),
    ],
)
def test_our_files_have_a_type_and_no_others(path: Path | str, kind: str) -> None:
    assert type_of(path) == kind


def test_a_dot_in_the_prefix_is_a_dot() -> None:
    assert all(r"/srv/a\.b/" in pattern for _, pattern in contexts("/srv/a.b"))
