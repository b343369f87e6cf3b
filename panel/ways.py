"""How a machine is looked at: commands with a time limit, here or elsewhere. Each is a process that can be ended."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vmwatch.panel.checkup import UNKNOWN, Looked, Probed
from vmwatch.panel.store import Host
from vmwatch.shared.conffile import load
from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.nodectl import HEALTH_LIMIT_S
from vmwatch.shared.paths import Paths
from vmwatch.shared.settings import NodeSettings

HEALTHCHECK = "vmwatch-healthcheck"
MAX_ANSWER_BYTES = 256 * 1024
NOT_FOUND = 127
"""A shell's exit code for a program that it does not find."""


class Way(Protocol):
    """Looks at nodes with one value of `reach`. No call may block, raise or outlast its limit."""

    async def look(self, host: Host, limit_s: float) -> Looked:
        """At the machine itself."""
        ...

    async def probe(self, host: Host, limit_s: float) -> Probed:
        """Run `vmwatch-healthcheck node --json` there."""
        ...


@dataclass(frozen=True)
class Ran:
    """How a command ended. `code` is None if it did not end in time, or could not be started; `error` says why."""

    code: int | None
    said: bytes = b""
    error: str = ""


class ThisMachine:
    """The way to what runs here. `healthcheck` and `libvirt_look`: the commands, without their arguments."""

    def __init__(
        self, prefix: Path, healthcheck: Sequence[str] = (), libvirt_look: Sequence[str] = ()
    ) -> None:
        self._prefix = prefix
        self._healthcheck = tuple(healthcheck) or (_installed(HEALTHCHECK),)
        self._libvirt_look = tuple(libvirt_look) or (sys.executable, "-m", "vmwatch.panel.libvirtlook")

    async def look(self, host: Host, limit_s: float) -> Looked:
        """It is reachable; does its libvirt answer?"""
        ran = await run([*self._libvirt_look, self._libvirt_uri()], limit_s)
        if ran.code == 0:
            return Looked(reachable=True, libvirt=True)
        told = ran.error or ran.said.decode(errors="replace").strip() or f"the look at it ended with {ran.code}"
        return Looked(reachable=True, libvirt=False, text=f"its libvirt does not answer: {told}")

    async def probe(self, host: Host, limit_s: float) -> Probed:
        """vmwatch-node's."""
        return await self._probe("node", limit_s)

    async def probe_master(self, limit_s: float) -> Probed:
        """vmwatch-master's."""
        return await self._probe("master", limit_s)

    async def _probe(self, service: str, limit_s: float) -> Probed:
        options = ("--json", "--timeout", str(HEALTH_LIMIT_S), "--prefix", str(self._prefix))
        return probed(await run([*self._healthcheck, service, *options], limit_s))

    def _libvirt_uri(self) -> str:
        """The one that the agent here listens to."""
        try:
            return load(Paths(self._prefix, "vmwatch-node").config, NodeSettings).settings.libvirt_uri
        except ConfigurationError:
            return "qemu:///system"


def probed(ran: Ran) -> Probed:
    """What the probe's answer says."""
    if ran.code is None:
        return Probed(text=ran.error, timed_out=True)
    if ran.code == NOT_FOUND:
        return Probed(code=2, state="missing", text=f"{HEALTHCHECK} is not installed there")
    try:
        told: Any = json.loads(ran.said)
        critical = frozenset(str(one["name"]) for one in told.get("findings", ()) if one["level"] == "CRITICAL")
        text = str(told.get("text", ""))[:900]
        return Probed(int(told.get("code", ran.code)), str(told.get("state", "")), text, critical=critical)
    except (ValueError, AttributeError, TypeError, KeyError):
        text = ran.error or ran.said.decode(errors="replace").strip()[:200]
        return Probed(code=UNKNOWN, text=f"the probe ended with {ran.code} and says nothing that is understood: {text}")


async def run(command: Sequence[str], limit_s: float) -> Ran:
    """Run a command in a session of its own, which ends with it."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except FileNotFoundError:
        return Ran(NOT_FOUND)
    except OSError as error:
        return Ran(UNKNOWN, error=f"{command[0]} cannot be run: {error.strerror}")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(limit_s):
            said = await _read(process.stdout)
            return Ran(await process.wait(), said)
    except TimeoutError:
        return Ran(None, error=f"{Path(command[0]).name} did not end within {limit_s:g} s")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _read(stream: asyncio.StreamReader) -> bytes:
    said = b""
    while chunk := await stream.read(65536):
        said = (said + chunk)[:MAX_ANSWER_BYTES]
    return said


def _installed(program: str) -> str:
    own = Path(sys.executable).with_name(program)
    return str(own) if own.exists() else shutil.which(program) or program
