"""vmwatch-healthcheck as a test runs it: the real command."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.testbed.service import command
from tests.testbed.waiting import wait_until

PROBE_LIMIT_S = "60"
"""Much longer than usual: on a machine under load a probe that gives up would say nothing."""
RUN_LIMIT_S = 300

Answer = dict[str, Any]


def run_probe(service: str, prefix: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`vmwatch-healthcheck SERVICE` below this prefix."""
    arguments = [command("vmwatch-healthcheck"), service, "--prefix", str(prefix), "--timeout", PROBE_LIMIT_S, *options]
    return subprocess.run(
        arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False
    )


def probe(service: str, prefix: Path, *options: str) -> Answer:
    """Its JSON; the exit code agrees with it."""
    done = run_probe(service, prefix, "--json", *options)
    assert not done.stderr, done.stderr
    answer: Answer = json.loads(done.stdout)
    assert done.returncode == answer["code"]
    return answer


def found(answer: Answer) -> dict[str, str]:
    """The level of each finding, by name; the worst where there are two of one name."""
    worst_last = reversed(answer["findings"])
    return {finding["name"]: finding["level"] for finding in worst_last}


def wait_probe(
    service: str, prefix: Path, condition: Callable[[Answer], bool], what: str, *options: str, timeout_s: float = 180
) -> Answer:
    """Probe until the answer is so; the answer."""
    answers: list[Answer] = []

    def holds() -> bool:
        answers[:] = [probe(service, prefix, *options)]
        return condition(answers[0])

    try:
        wait_until(holds, what, timeout_s)
    except AssertionError as error:
        raise AssertionError(f"{error}: {answers}") from None
    return answers[0]
