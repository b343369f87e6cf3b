"""What the design's table says of folders, imports and cores (design 01) holds in the tree."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("node", "supervisor", "workers", "panel", "healthcheck", "cli")
CORES = (
    "node/sender.py",
    "supervisor/ledger.py",
    "supervisor/dispatcher.py",
    "workers/batcher.py",
    "workers/verdicts.py",
    "healthcheck/watcher.py",
    "panel/rules.py",
    "panel/checkup.py",
    "panel/knowledge.py",
    "panel/maintenance.py",
    "panel/problems.py",
    "panel/removed.py",
    "panel/solving.py",
    "panel/complaints.py",
    "panel/registration.py",
    "panel/duplicates.py",
    "panel/inquiry.py",
    "panel/watch.py",
    "panel/activity.py",
    "panel/installation.py",
    "panel/installations.py",
    "supervisor/progress.py",
    "healthcheck/levels.py",
    "healthcheck/ranges.py",
    "healthcheck/figures.py",
    "healthcheck/facts.py",
    "healthcheck/processhealth.py",
    "healthcheck/masterhealth.py",
    "healthcheck/nodehealth.py",
    "healthcheck/verdict.py",
    "healthcheck/answer.py",
    "panel/configureaddress.py",
    "panel/configureplan.py",
    "panel/configurereport.py",
    "shared/confedit.py",
    "panel/places.py",
)
PURE = {
    "__future__",
    "collections",
    "collections.abc",
    "dataclasses",
    "enum",
    "errno",
    "hashlib",
    "heapq",
    "hmac",
    "ipaddress",
    "itertools",
    "math",
    "msgspec",
    "msgspec.structs",
    "random",
    "re",
    "typing",
}
"""Modules that do no I/O, know no time and start no thread."""


def imported(path: Path) -> set[str]:
    """Names of all modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            # `from vmwatch.shared import logs` names a folder; its modules are what is imported.
            inside = [f"{module}.{alias.name}" for alias in node.names]
            names |= {name for name in inside if file_of(name).is_file()} or {module}
    return names


def file_of(module: str) -> Path:
    return ROOT / Path(*module.split(".")[1:]).with_suffix(".py") if module.startswith("vmwatch.") else ROOT / "none"


def reached(path: Path, seen: set[Path]) -> set[str]:
    """All modules from outside the project that a file imports, directly or through the project's own."""
    outside: set[str] = set()
    for name in imported(path):
        if not name.startswith("vmwatch."):
            outside.add(name)
        elif (own := file_of(name)) not in seen:
            seen.add(own)
            outside |= reached(own, seen)
    return outside


@pytest.mark.parametrize("core", CORES)
def test_a_core_reaches_no_module_that_does_io(core: str) -> None:
    assert reached(ROOT / core, set()) <= PURE


def test_the_check_of_cores_sees_io_through_other_modules() -> None:
    assert "socket" in reached(ROOT / "shared" / "statussocket.py", set())
    assert not reached(ROOT / "node" / "main.py", set()) <= PURE


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_imports_only_shared_and_itself(program: str) -> None:
    for path in (ROOT / program).rglob("*.py"):
        own = {name.split(".")[1] for name in imported(path) if name.startswith("vmwatch.")}
        assert own <= {"shared", program}, f"{path} imports {own}"


def test_shared_imports_no_program() -> None:
    for path in (ROOT / "shared").rglob("*.py"):
        own = {name.split(".")[1] for name in imported(path) if name.startswith("vmwatch.")}
        assert own <= {"shared"}, f"{path} imports {own}"


def test_the_top_folders_are_no_packages_and_each_is_linked_into_vmwatch() -> None:
    for name in (*PROGRAMS, "shared"):
        assert not (ROOT / name / "__init__.py").exists()
        link = ROOT / "src" / "vmwatch" / name
        assert link.is_symlink()
        assert link.resolve() == ROOT / name
