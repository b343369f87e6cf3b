"""Fixtures for all tests: a whole installation, and folders whose paths are short enough for UNIX sockets."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.stack import Stack, short_folder


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
