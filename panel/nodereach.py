"""Has `vmwatch-nodectl` do something on a node: on this machine directly, elsewhere over SSH, with a time limit."""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

from vmwatch.panel.rootway import command_of, explained
from vmwatch.panel.ssh import INSTALL, Ssh, SshError, Target
from vmwatch.panel.store import Host
from vmwatch.shared import nodectl
from vmwatch.shared.nodectl import Outcome, Request, Step
from vmwatch.shared.paths import Paths

Say = Callable[[str], None]

MAX_LINE_BYTES = 1024 * 1024
MAX_ERRORS_BYTES = 64 * 1024
SSH_FAILED = 255
"""ssh's own exit code when it was not the command that failed."""


class NodeReach:
    """Reaches nodes. In the event loop's thread; it never blocks."""

    def __init__(self, paths: Paths) -> None:
        self._prefix = paths.prefix
        self.ssh = Ssh(paths)
        self.install_ssh = Ssh(paths, INSTALL)
        """With the key that lets libvirt's client in."""

    async def ask(self, host: Host, request: Request, say: Say, limit_s: float) -> Outcome:
        """The outcome on that node; `say` gets its lines of progress. What fails on the way is an outcome too."""
        if host.reach == "local":
            return await self._run(command_of(nodectl.COMMAND, self._prefix), request, say, limit_s, explained)
        if host.reach != "ssh":
            return Outcome(False, "it is not known how to reach it: reach is neither local nor ssh")
        try:
            target = Target.of(host.ssh, host.address)
            await self.ssh.make_key()
        except SshError as error:
            return Outcome(False, str(error))
        explain: Callable[[str], str] = lambda errors: self.ssh.explain(target, errors)  # noqa: E731
        return await self._run(self.ssh.command(target), request, say, limit_s, explain)

    async def _run(
        self, command: Sequence[str], request: Request, say: Say, limit_s: float, explain: Callable[[str], str]
    ) -> Outcome:
        pipe = asyncio.subprocess.PIPE
        try:
            # A session of its own: what it starts ends with it, and finds no terminal to ask at.
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, limit=MAX_LINE_BYTES
            )
        except OSError as error:
            return Outcome(False, f"{command[0]} cannot be run: {error.strerror}")
        errors = asyncio.create_task(_drain(process.stderr))
        try:
            async with asyncio.timeout(limit_s):
                outcome = await _converse(process, request, say)
                code = await process.wait()
                told = (await errors).decode("utf-8", "replace")
        except TimeoutError:
            return Outcome(False, f"it did not answer within {limit_s:g} s")
        except ValueError:  # a line longer than the limit
            return Outcome(False, "what it answers is nothing that vmwatch-nodectl says")
        finally:
            errors.cancel()
            if process.returncode is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if outcome is not None:
            return outcome
        if code == 127:
            return Outcome(False, f"{nodectl.COMMAND} is not installed there: {explained(told)}")
        why = explain(told) if code == SSH_FAILED else f"{nodectl.COMMAND} ended with {code}: {explained(told)}"
        return Outcome(False, why)


async def _converse(process: asyncio.subprocess.Process, request: Request, say: Say) -> Outcome | None:
    """Give it the request, and read until its output ends."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(ConnectionError):
        process.stdin.write(nodectl.encode(request))
        await process.stdin.drain()
        process.stdin.close()
    outcome = None
    while line := await process.stdout.readline():
        word = nodectl.decode_word(line)
        if isinstance(word, Step):
            say(word.text)
        elif isinstance(word, Outcome):
            outcome = word
    return outcome


async def _drain(stream: asyncio.StreamReader | None) -> bytes:
    """All that comes, of which the end is kept: a full pipe would stop the other side."""
    kept = b""
    while stream is not None and (chunk := await stream.read(4096)):
        kept = (kept + chunk)[-MAX_ERRORS_BYTES:]
    return kept
