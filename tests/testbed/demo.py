"""A `vmwatch demo` as a test runs it: the real command, its output, and its signals."""

import os
import re
import signal
import subprocess
import threading
from types import TracebackType
from typing import Self

from tests.testbed.service import command
from tests.testbed.waiting import wait_until


class Demo:
    """A running `vmwatch demo`; what it prints is read all the time."""

    def __init__(self, *arguments: str, prefix: tuple[str, ...] = ()) -> None:
        self._lines: list[str] = []
        self.process = subprocess.Popen(
            [*prefix, command("vmwatch"), "demo", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGTERM)

    @property
    def printed(self) -> str:
        return "".join(self._lines)

    @property
    def folder(self) -> str:
        return self.wait_for(r"everything is below (\S+)")[1]

    @property
    def uri(self) -> str:
        return self.wait_for(r"virsh -c '(\S+)' destroy web-1")[1]

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until something that it has printed matches."""

        def look() -> re.Match[str] | None:
            ended = self.process.poll() is not None
            if ended:
                self._reader.join()
            found = re.search(pattern, self.printed)
            assert found or not ended, f"the demo has ended without {pattern!r}:\n{self.printed}"
            return found

        found = wait_until(look, f"the demo to print {pattern!r}", timeout_s=120)
        assert found
        return found

    def wait_ready(self) -> None:
        self.wait_for("Ctrl-C ends the demo")

    def end(self, number: signal.Signals) -> int:
        """Send it a signal; its exit code, and all that it has printed is there."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(120)
        self._reader.join(60)
        return code

    def environment(self) -> dict[str, str]:
        """What `vmwatch vms` and `vmwatch events` need to ask its panel."""
        return {
            **os.environ,
            "VMWATCH_URL": self.wait_for(r"page\s+(\S+)")[1],
            "VMWATCH_PASSWORD": self.wait_for(r"password\s+(\S+)")[1],
        }

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)
