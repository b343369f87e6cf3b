"""A process under a keeper (`keeper`): whatever becomes of us, it and all that it started end."""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from vmwatch.cli import keeper

END_LIMIT_S = 30


def keeper_command(masked: Sequence[str], removed: Path | None, command: Sequence[str]) -> list[str]:
    """How the keeper is run: isolated (-I) and without site-packages (-S), so that it starts in milliseconds."""
    options = [word for folder in masked for word in ("--mask", folder)]
    if removed is not None:
        options += ["--remove", str(removed)]
    return [sys.executable, "-I", "-S", str(Path(keeper.__file__).resolve()), *options, "--", *command]


class Kept:
    """One keeper and the command that it can start, again after its end. Several threads may use it.

    The keeper runs from here on, the command not yet. `log` gets what both print. `removed` is deleted when the
    keeper ends, and the `masked` folders are empty for the command (root only). `pid` is the keeper's.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        masked: Sequence[str] = (),
        removed: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        self._lock = threading.Lock()
        with log.open("ab") as output:
            self._keeper = subprocess.Popen(
                keeper_command(masked, removed, command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=environment,
                text=True,
                # Ctrl-C at the terminal is for us, who then end the command in order, and not for the command.
                start_new_session=True,
            )
        self.pid = self._keeper.pid

    @property
    def is_running(self) -> bool:
        """Whether the command lives; a frozen one does. Raises RuntimeError if the keeper does not."""
        return self._ask("status") == "running"

    def start(self) -> int:
        """Start the command, and return its pid."""
        return int(self._ask("start"))

    def signal(self, number: signal.Signals) -> None:
        """Send the command a signal, if it lives."""
        self._ask(f"signal {int(number)}")

    def close(self) -> None:
        """End the command and everything that it started, at once. May be called again."""
        with contextlib.suppress(OSError, ValueError):  # the keeper has ended, or was closed before
            self._keeper.communicate("quit\n", timeout=END_LIMIT_S)
        self._keeper.wait(timeout=END_LIMIT_S)

    def _ask(self, command: str) -> str:
        """One command to the keeper and its answer."""
        requests, answers = self._keeper.stdin, self._keeper.stdout
        if requests is None or answers is None or requests.closed:
            raise RuntimeError("the keeper was closed")
        answer = ""
        with self._lock, contextlib.suppress(BrokenPipeError):
            requests.write(f"{command}\n")
            requests.flush()
            answer = answers.readline().strip()
        if not answer:
            said = self._log.read_text(errors="replace") if self._log.exists() else ""
            raise RuntimeError(f"the keeper has ended; its log:\n{said}")
        return answer
