"""The packages of `make deb`, a second version of each, and one clean Debian for all tests of a module."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.testbed.cleanroot import ROOT, CleanRoot, fetch
from tests.testbed.installed import HOST_FILE, PREFIX, Installed
from tests.testbed.stack import short_folder
from tests.testbed.testdriver import TestDriverDaemon

NAMES = ("vmwatch-master", "vmwatch-node")
NEWER = "9.9.9"
TOOLS = ("logrotate",)
"""What the packages only recommend, and the tests use."""


@dataclass(frozen=True)
class Packages:
    """`master` and `node`: files; `newer_master` and `newer_node`: the same programs under a higher version."""

    master: Path
    node: Path
    newer_master: Path
    newer_node: Path


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = short_folder()
    made.mkdir()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def packages(folder: Path) -> Packages:
    found = []
    for name in NAMES:
        made = sorted((ROOT / "dist").glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)
        if not made:
            text = f"dist/{name}_*.deb is missing (make deb)"
            if os.environ.get("CI"):
                pytest.fail(text)
            pytest.skip(text)
        found.append(made[-1])
    return Packages(*found, *(newer(path, folder) for path in found))


def newer(package: Path, folder: Path) -> Path:
    """The package under the version NEWER, which its programs tell too."""
    tree = folder / "newer"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tree)], check=True)
    control = tree / "DEBIAN" / "control"
    lines = [f"Version: {NEWER}" if line.startswith("Version:") else line for line in control.read_text().splitlines()]
    control.write_text("\n".join([*lines, ""]))
    for module in tree.rglob("vmwatch/shared/version.py"):
        module.write_text(f'"""The one place that knows the version."""\n\nVERSION = "{NEWER}"\n')
    made = folder / f"{package.name.partition('_')[0]}_{NEWER}.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(made)]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(tree)
    return made


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[TestDriverDaemon]:
    with TestDriverDaemon(folder / "libvirt", domains=("web",)) as running:
        yield running


@pytest.fixture(scope="module")
def clean(folder: Path, packages: Packages, daemon: TestDriverDaemon) -> Iterator[CleanRoot]:
    """A clean Debian with what the packages depend on, and nothing of theirs."""
    fetch([packages.master, packages.node], *TOOLS)
    with CleanRoot(folder / "root", daemon.sockets) as root:
        needed = [*TOOLS]
        for package in (packages.master, packages.node):
            told = subprocess.run(["dpkg-deb", "-f", str(package), "Depends"], check=True, capture_output=True)
            needed.append(told.stdout.decode().strip())
        options = ("--yes", "--no-install-recommends", "--no-download", "-o", "APT::Sandbox::User=root")
        root.run("apt-get", *options, "satisfy", *needed)
        yield root


@pytest.fixture
def machine(clean: CleanRoot, daemon: TestDriverDaemon) -> Iterator[Installed]:
    """The clean Debian as an operator sees it; what the test installs is purged afterwards."""
    made = Installed(clean, daemon.uri)
    try:
        yield made
    finally:
        made.purge()
        assert not made.file(PREFIX).exists(), sorted(made.file(PREFIX).rglob("*"))
        (clean.path / HOST_FILE).unlink(missing_ok=True)
