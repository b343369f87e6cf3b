"""An independent witness of libvirt's events: `virsh event`, which shares no code with the programs under test."""

import contextlib
import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.testbed.waiting import wait_until
from tests.testbed.withblock import WithBlock

LINE = re.compile(r"event '(?P<kind>[^']+)' for domain '(?P<domain>.*?)'(?:: (?P<rest>.*))?$")
"""Found anywhere in a line: the time stands before it."""

FIRST_EVENT_AFTER_OURS = "eventID=2"
"""virsh registers for events in the order of their numbers: lifecycle is 0, reboot is 1."""

LIFECYCLE_DETAIL = {
    "snapshot": "from_snapshot",
    "event wakeup": "wakeup",
    "i/o error": "ioerror",
    "api error": "api_error",
    "post-copy": "postcopy",
    "post-copy error": "postcopy_failed",
    "finished after guest request": "guest",
    "finished after host request": "host",
}
"""virsh's phrases where they differ from libvirt's own names in more than case."""

READY_LIMIT_S = 30
END_LIMIT_S = 10


class Observed(NamedTuple):
    """One event in libvirt's own names; `detail` is empty where libvirt gives none."""

    domain: str
    event: str
    detail: str


def parse(line: str) -> Observed | None:
    """The event in a line of virsh's output; None where the line tells of none."""
    match = LINE.search(line)
    if match is None:
        return None
    kind, rest = match["kind"], match["rest"] or ""
    if kind != "lifecycle":
        return Observed(match["domain"], kind.replace("-", "_"), rest)
    event, _, phrase = rest.lower().partition(" ")
    return Observed(match["domain"], event, LIFECYCLE_DETAIL.get(phrase, phrase))


class Observer(WithBlock):
    """Watches one libvirtd from `with` on; `events` grows as they come.

    It ends by itself when libvirtd does; after a restart a new one is needed.
    """

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri = uri
        self.output = folder / "events.log"
        self._calls = folder / "events-api.log"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def begin(self) -> None:
        self.start()

    def close(self) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when no event can escape any more.

        virsh does not say when it has registered. Its library's debug log tells of each call as it begins, so the
        call for the third kind of event proves that the first two are registered.
        """
        for file in (self.output, self._calls):
            file.write_bytes(b"")
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                # Into a file, virsh would write only when its buffer is full: stdbuf makes it write each line.
                ["stdbuf", "-oL", "virsh", "-c", self.uri, "event", "--all", "--loop", "--timestamp"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment(),
            )
        wait_until(self._is_registered, f"virsh to watch {self.uri}", READY_LIMIT_S)

    def stop(self) -> None:
        """End virsh; what it saw stays readable."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_LIMIT_S)
            process.kill()  # does nothing to a process that has been waited for
            process.wait()

    @property
    def is_running(self) -> bool:
        """Whether virsh still watches."""
        return self._process is not None and self._process.poll() is None

    @property
    def events(self) -> list[Observed]:
        """All events so far, in order."""
        # A line that virsh is just writing has no end yet, and may be cut in the middle of a name.
        *whole, _ = self.output.read_text().split("\n")
        return [event for event in map(parse, whole) if event is not None]

    def events_of(self, domain: str) -> list[tuple[str, str]]:
        """One domain's (event, detail) so far, in order."""
        return [(event.event, event.detail) for event in self.events if event.domain == domain]

    def wait_for(self, domain: str, event: str, detail: str = "", timeout_s: float = 60) -> None:
        """Wait until this event has been seen."""
        wanted = (event, detail)

        def missing() -> list[tuple[str, str]] | None:
            seen = self.events_of(domain)
            return None if wanted in seen else seen

        wait_until(lambda: missing() is None, f"{event} {detail} of {domain}; see {self.output}", timeout_s)

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "LC_ALL": "C",  # virsh translates its words
            "LIBVIRT_LOG_FILTERS": "1:libvirt",
            "LIBVIRT_LOG_OUTPUTS": f"1:file:{self._calls}",
        }

    def _is_registered(self) -> bool:
        if not self.is_running:
            raise AssertionError(f"virsh ended:\n{self.output.read_text()}")
        return FIRST_EVENT_AFTER_OURS in self._calls.read_text()
