"""The probe as a command: an answer in whatever locale it is asked."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.testbed.service import command
from vmwatch.healthcheck.levels import Level


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """With a node's file that is wrong, and a finding that says so in its own letters."""
    (tmp_path / "etc").mkdir()
    conf = tmp_path / "etc" / "vmwatch-node.conf"
    conf.write_text("connect=сервер\nnode_id=kvm-01\n")
    conf.chmod(0o600)
    return tmp_path


def ask(prefix: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and answer where only ASCII can be printed."""
    done = subprocess.run(
        [command("vmwatch-healthcheck"), "node", "--prefix", str(prefix), *arguments],
        capture_output=True,
        encoding="ascii",
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_letters_that_the_locale_lacks_are_written_as_their_numbers(prefix: Path) -> None:
    code, line = ask(prefix)
    assert code == Level.CRITICAL
    assert "\\u0441\\u0435\\u0440" in line


def test_the_document_is_json_in_any_locale(prefix: Path) -> None:
    code, text = ask(prefix, "--json")
    assert code == Level.CRITICAL
    assert "сервер" in json.dumps(json.loads(text), ensure_ascii=False)
