"""Trials: a guard is taken away in a copy of the tree, and the tests that should miss it are run there."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.guards.guard import Guard

ROOT = Path(__file__).resolve().parents[2]
_MADE = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "results", "*.egg-info")
LIMIT_S = 1800.0
"""A guard whose loss makes a test hang is missed too."""

_PANEL = "tests/unit/panel/test_"
_MIGRATIONS = ("departures", "migration", "recorded_migrations")
_FIRST: dict[str, tuple[str, ...]] = {
    "panel/rules.py": ("rules", "claims", *_MIGRATIONS, "watch", "doubt", "duplicates", "duplicate_edges"),
    "panel/watch.py": ("watch", "doubt", "removed", "installations", *_MIGRATIONS, "duplicates"),
    "shared/nodestatus.py": ("watch", "doubt"),
    "panel/duplicates.py": ("duplicates", "duplicate_edges"),
    "panel/inquiry.py": ("inquiry", *_MIGRATIONS, "duplicates", "duplicate_edges"),
    "panel/knowledge.py": (
        *("knowledge", "registration", "epochs", "watch", *_MIGRATIONS),
        *("installations", "installation_listings", "duplicates", "duplicate_edges", "inquiry"),
    ),
    "panel/registration.py": (
        *("registration", "epochs", "watch", "doubt", "installations", "installation_listings"),
        *("duplicates", "duplicate_edges", "knowledge", *_MIGRATIONS),
    ),
    "panel/problems.py": ("problem_life", "watch", "duplicates", "installations"),
    "panel/activity.py": ("activity", "activity_edges"),
    "panel/installation.py": ("installation_edges", "installation", "installation_listings"),
    "panel/installations.py": ("installations", "installation_listings", "installation_edges"),
}
"""The tests of each core, those that find most first."""
_NOT_SIMULATED = {"panel/activity.py", "panel/installation.py", "panel/installations.py"}
_OUTCOME = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - (.*))?$", re.MULTILINE)
_UNFAIR = re.compile(r"\b(NameError|SyntaxError|AttributeError|TypeError|UnboundLocalError|ImportError)\b")


def left_out(folder: str, names: list[str]) -> set[str]:
    """What of a folder is made and not written; packages are made at the root, a whole system of theirs with them."""
    return _MADE(folder, names) | ({"build", "dist"} if Path(folder) == ROOT else set())


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a trial. `by`: the test or the seed that missed the guard, empty if none did; `why`: its words."""

    guard: Guard
    by: str = ""
    why: str = ""

    @property
    def is_unfair(self) -> bool:
        """What is left without the guard is no program: that a test fails on it says nothing."""
        return bool(_UNFAIR.search(self.why))

    @property
    def survived(self) -> bool:
        return not self.by or self.is_unfair

    def __str__(self) -> str:
        if not self.by:
            return f"SURVIVED  {self.guard.name}"
        return f"{'UNFAIR' if self.is_unfair else 'missed':<9} {self.guard.name}  by {self.by}"


class Workshop:
    """A copy of the tree, from `with` on, in which guards are taken away one after another."""

    def __init__(self, seeds: int) -> None:
        self._seeds = seeds
        self._folder = Path()
        self._changes = 0

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="vmwatch-guards-"))
        shutil.copytree(ROOT, self._folder, symlinks=True, ignore=left_out, dirs_exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def try_without(self, guard: Guard) -> Found:
        """Take one guard away, look who misses it, and put it back. Raises GuardError if it is not there."""
        path = self._folder / guard.file
        whole = path.read_text()
        self._write(path, guard.removed_from(whole))
        try:
            by, why = self._run(guard.file)
        finally:
            self._write(path, whole)
        return Found(guard, by, why)

    def try_whole(self, files: set[str]) -> str:
        """What fails although nothing was taken away; empty if nothing does, as it should be."""
        return " - ".join(filter(None, next((found for file in sorted(files) if (found := self._run(file))[0]), ())))

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        # Compiled modules are told apart by whole seconds and sizes, and both may be the same.
        self._changes += 1
        os.utime(path, (self._changes, self._changes))

    def _run(self, file: str) -> tuple[str, str]:
        options = ["-x", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider", "-p", "tests.guards.quick"]
        code, output = self._python("pytest", *options, *modules_for(file))
        if code != 0:
            found = _OUTCOME.search(output)
            return (found[1], found[2] or "") if found else (f"pytest, which ended with {code}", output[-500:])
        if file in _NOT_SIMULATED:
            return "", ""
        code, output = self._python("tests.guards.seeds", str(self._seeds))
        by, _, why = output.strip().rpartition("\n")[2].partition(" - ")
        return (by or "seeds", why) if code != 0 else ("", "")

    def _python(self, module: str, *arguments: str) -> tuple[int, str]:
        environment = os.environ | {"PYTHONPATH": str(self._folder / "src"), "COLUMNS": "300"}
        environment.pop("PYTEST_ADDOPTS", None)
        try:
            done = subprocess.run(
                [sys.executable, "-m", module, *arguments],
                cwd=self._folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return 1, f"FAILED {module} - no end within {LIMIT_S:g} s"
        return done.returncode, done.stdout + done.stderr


def modules_for(file: str) -> list[str]:
    """The modules of tests that should miss a guard of this file."""
    if file == "node/inventory.py":
        return ["tests/unit/node/test_inventory.py", "tests/unit/node/test_inventory_edges.py"]
    return [f"{_PANEL}{name}.py" for name in _FIRST[file]]
