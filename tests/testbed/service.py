"""One of vmwatch's programs as a test runs it: the real command, with signals, its log and its status socket."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.testbed.waiting import wait_until
from vmwatch.shared.statussocket import read_status

END_LIMIT_S = 60


def command(program: str) -> str:
    """The installed command, from the environment that runs the tests."""
    return str(Path(sys.executable).with_name(program))


class Service:
    """A program under test; whatever happens, it is ended when the `with` block is left."""

    def __init__(self, program: str, prefix: Path, *arguments: str) -> None:
        self.program = program
        self.prefix = prefix
        self.arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None
        self.output = prefix / f"{program}.out"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        if self.process is None:
            raise RuntimeError(f"{self.program} was not started")
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has logged and printed so far."""
        texts = [self.prefix / "var" / f"{self.program}.log", self.output]
        return "".join(path.read_text(errors="replace") for path in texts if path.exists())

    @property
    def status(self) -> dict[str, Any]:
        """What its status socket says; empty while there is none."""
        try:
            return read_status(self.prefix / "var" / "run" / f"{self.program}.sock")
        except (OSError, ValueError):
            return {}

    def start(self) -> None:
        """Start it, again if it has ended; wait until its status socket answers."""
        self.launch()
        wait_until(lambda: self.status or self.process_ended(), f"{self.program} to answer on its status socket")
        assert not self.process_ended(), f"{self.program} ended at once:\n{self.log}"

    def launch(self) -> None:
        """Start it without waiting for anything."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [command(self.program), "--prefix", str(self.prefix), *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def process_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it, and to nobody else."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process is not None and not self.process_ended():
            self.signal(signal.SIGKILL)
            self.process.wait(END_LIMIT_S)

    def restart_after_kill(self) -> None:
        self.kill()
        self.start()

    def terminate(self) -> int:
        """SIGTERM, and its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self, timeout_s: float = END_LIMIT_S) -> int:
        """Its exit code when it has ended."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def close(self) -> None:
        if self.process is None:
            return
        if not self.process_ended():
            self.signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(END_LIMIT_S)
