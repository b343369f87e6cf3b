"""A network namespace with a cable to this one: another machine as far as the network goes."""

import os
import random
import subprocess
from functools import cache
from types import TracebackType
from typing import Self

import pytest

from tests.testbed.daemon import find_program, needed_programs


class Namespace:
    """`here` and `there`: the two ends' addresses. Everything goes when the `with` block is left."""

    def __init__(self) -> None:
        number = random.randint(0, 0xFFFF)
        self.name = f"vw{os.getpid()}-{number:x}"
        self._cable = f"vw{number:x}"
        network = f"10.{random.randint(200, 249)}.{number >> 8}.{number & 0xFC}"
        head, _, last = network.rpartition(".")
        self.here, self.there = f"{head}.{int(last) + 1}", f"{head}.{int(last) + 2}"

    def __enter__(self) -> Self:
        try:
            ip("netns", "add", self.name)
            ip("link", "add", f"{self._cable}h", "type", "veth", "peer", "name", f"{self._cable}t", "netns", self.name)
            ip("addr", "add", f"{self.here}/30", "dev", f"{self._cable}h")
            ip("link", "set", f"{self._cable}h", "up")
            for words in (
                ("addr", "add", f"{self.there}/30", "dev", f"{self._cable}t"),
                ("link", "set", f"{self._cable}t", "up"),
                ("link", "set", "lo", "up"),
            ):
                ip("-n", self.name, *words)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    @property
    def prefix(self) -> tuple[str, ...]:
        """A command that becomes another one inside."""
        return (program("ip"), "netns", "exec", self.name)

    def run(self, *command: str) -> None:
        subprocess.run([*self.prefix, *command], check=True, capture_output=True)

    def cut(self) -> None:
        """Nothing passes through the cable any more, and nobody is told."""
        ip("-n", self.name, "link", "set", f"{self._cable}t", "down")

    def mend(self) -> None:
        ip("-n", self.name, "link", "set", f"{self._cable}t", "up")

    def _remove(self) -> None:
        subprocess.run([program("ip"), "link", "del", f"{self._cable}h"], check=False, capture_output=True)
        subprocess.run([program("ip"), "netns", "del", self.name], check=False, capture_output=True)


def program(name: str) -> str:
    found = find_program(name)
    assert found is not None, name
    return found


def ip(*words: str) -> None:
    subprocess.run([program("ip"), *words], check=True, capture_output=True)


@cache
def can_separate() -> bool:
    """Root can make namespaces, root in many containers cannot."""
    if os.geteuid() != 0 or needed_programs("ip") or find_program("ip") is None:
        return False
    try:
        with Namespace():
            return True
    except subprocess.CalledProcessError:
        return False


def needs_namespaces(*programs: str) -> pytest.MarkDecorator:
    """The mark of a test that uses them, and these programs in them."""
    reason = needed_programs("ip", *programs)
    return pytest.mark.skipif(bool(reason) or not can_separate(), reason=reason or "needs root and namespaces")
