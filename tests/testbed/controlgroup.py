"""A control group for an init of the tests' own: what systemd needs to keep its services apart."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from tests.testbed.waiting import wait_until


class ControlGroup:
    """`name`: of a new group below the root of control groups (version 2)."""

    def __init__(self, name: str) -> None:
        self.path = root() / name

    def entering(self, command: Sequence[str]) -> list[str]:
        """Make it; this command then runs in it."""
        self.path.mkdir()
        return ["sh", "-c", f'echo $$ >{self.path}/cgroup.procs; exec "$@"', "sh", *command]

    def remove(self) -> None:
        """When all that ran in it has been ended."""
        wait_until(self._removed, "its control groups to be empty")

    def _removed(self) -> bool:
        if not self.path.exists():
            return True
        for group in sorted(self.path.rglob("*/"), reverse=True):
            with contextlib.suppress(OSError):
                group.rmdir()
        with contextlib.suppress(OSError):
            self.path.rmdir()
        return not self.path.exists()


def root() -> Path:
    """Where they are. Raises RuntimeError where there are none."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split(" ")
        if kind == "cgroup2":
            return Path(point)
    raise RuntimeError("no cgroup2 is mounted")
