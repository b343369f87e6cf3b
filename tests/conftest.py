"""Fixtures for all tests: a whole installation, and folders whose paths are short enough for UNIX sockets."""

import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.testbed.stack import Stack, short_folder
from tests.testbed.telling import told_by

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is for what a shell runs in its background, and for all that this starts: it would not hear Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
"""How fast examples are made and tried says something about the machine only."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its fixtures have to tell: their logs, and what they show of the cluster."""
    report = yield
    if report.failed and report.when == "call":
        report.sections += told_by(getattr(item, "funcargs", {}).values())
    return report


@pytest.fixture(scope="session", autouse=True)
def temporary_folder() -> Iterator[None]:
    """What programs leave in the temporary folder when they are killed goes with the folder."""
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    folder = short_folder()
    folder.mkdir(mode=0o1777)
    folder.chmod(0o1777)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before[1]
        os.environ.pop("TMPDIR")
        if before[0] is not None:
            os.environ["TMPDIR"] = before[0]
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def short_path(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder directly below /tmp, removed afterwards."""
    folder = short_folder()
    folder.mkdir(mode=0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def stack(short_path: Path) -> Iterator[Stack]:
    """A running panel and master; nodes are added by the test."""
    with Stack(short_path) as running:
        yield running
