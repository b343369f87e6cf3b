"""Reaches the hypervisors to install (design 03, rule 7): where each is, and actions there that never hold up anybody.

Each action is a process of its own (`libvirtaction`), because a call of libvirt, or the SSH below it, can hang and
only a process can be ended. Their number is bounded, one that does not answer in time is killed, and hung nodes keep
their places to themselves (`places`): so a hung node delays no page and no other node.
"""

import asyncio
import os
import re
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from vmwatch.panel.installation import Action, Answer, Installation, Kind
from vmwatch.panel.libvirtaction import Order
from vmwatch.panel.libvirtssh import LibvirtSsh, uri_of
from vmwatch.panel.places import Places, Ticket
from vmwatch.panel.ssh import SshError, Target
from vmwatch.panel.store import Host

ACTION_LIMIT_S = 120.0
"""A start by a system-wide libvirtd was seen to take 52 s."""
SLOW_S = 10.0
"""From then on an action is slow; a healthy libvirtd needs a second or two."""
MAX_ANSWER_BYTES = 256 * 1024
LIBVIRT_URI = re.compile(
    r"qemu(\+(unix|ssh|tls))?://([A-Za-z0-9_][A-Za-z0-9_.-]*@)?([A-Za-z0-9][A-Za-z0-9.:-]*|\[[0-9A-Fa-f:]+\](:\d+)?)?"
    r"/system(\?(socket|keyfile|no_tty)=[A-Za-z0-9._/-]+(&(socket|keyfile|no_tty)=[A-Za-z0-9._/-]+)*)?"
)
"""Other parameters of libvirt's addresses name programs that it would run here."""
LIBVIRT_URI_ALLOWED = (
    "qemu:///system, qemu+ssh://USER@HOST/system, qemu+tls://HOST/system or qemu+unix:///system?socket=PATH, with"
    " socket, keyfile or no_tty as parameters,"
)


def libvirt_uri(host: Host) -> str:
    """Where the panel reaches a node's libvirt to change domains; empty if it cannot."""
    if host.libvirt_uri:
        return host.libvirt_uri
    if host.reach == "local":
        return "qemu:///system"
    if host.reach == "ssh":
        with suppress(SshError):
            return uri_of(Target.of(host.ssh, host.address))
    return ""


@dataclass(eq=False)
class _Turn:
    """What an action waits for: its place, and then its answer or its end. `lost`: others waited for its place."""

    begun: "asyncio.Future[None]"
    limit: asyncio.Timeout | None = None
    lost: bool = False

    def lose(self) -> None:
        """Its time is over."""
        self.lost = True
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(asyncio.get_running_loop().time())


class Hypervisors:
    """Performs actions. For the event loop's thread. `ssh`: the way to nodes that are reached over SSH."""

    def __init__(
        self,
        limit_s: float = ACTION_LIMIT_S,
        slow_s: float = SLOW_S,
        places: Places | None = None,
        ssh: LibvirtSsh | None = None,
    ) -> None:
        self._ssh = ssh
        self._limit_s = limit_s
        self._slow_s = slow_s
        self._places = places or Places()
        self._turns: dict[Ticket, _Turn] = {}

    async def perform(self, installation: Installation, action: Action, host: Host | None) -> Answer:
        """libvirt's answer. One that is not had in time is AGAIN: each action looks first what was done already."""
        if host is None or host.hidden:
            return Answer(Kind.FAILED, f"the node {installation.node} was removed from the panel")
        uri = libvirt_uri(host)
        if not uri:
            return Answer(Kind.FAILED, f"it is not known how to reach libvirt on {host.name} (reach, libvirt_uri)")
        ssh = self._ssh if host.reach == "ssh" and not host.libvirt_uri else None
        try:
            uri = uri if ssh is None else await ssh.uri(host)
        except SshError as error:
            return Answer(Kind.AGAIN, str(error))
        answer = await self._have_done(host, self._order(uri, installation, action))
        if ssh is not None and answer.kind is Kind.AGAIN:
            answer = Answer(Kind.AGAIN, ssh.explain(host, answer.text))
        return answer

    def _order(self, uri: str, installation: Installation, action: Action) -> Order:
        what = installation.uuid, installation.key, installation.boot, installation.image
        return Order(uri, *what, action, os.getpid())

    async def _have_done(self, host: Host, order: Order) -> Answer:
        """By a process, when it is the node's turn."""
        loop = asyncio.get_running_loop()
        ticket = self._places.ask(host.name)
        turn = self._turns[ticket] = _Turn(loop.create_future())
        timer: asyncio.TimerHandle | None = None
        try:
            self._settle()
            await turn.begun
            timer = loop.call_later(self._slow_s, self._overstay, ticket)
            return await self._run(order, turn)
        finally:
            if timer is not None:
                timer.cancel()
            del self._turns[ticket]
            self._places.leave(ticket)
            self._settle()

    def _overstay(self, ticket: Ticket) -> None:
        self._places.overstay(ticket)
        self._settle()

    def _settle(self) -> None:
        begun, ended = self._places.settle()
        for ticket in begun:
            if not self._turns[ticket].begun.done():  # a cancelled one leaves in a moment
                self._turns[ticket].begun.set_result(None)
        for ticket in ended:
            self._turns[ticket].lose()

    async def _run(self, order: Order, turn: _Turn) -> Answer:
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "vmwatch.panel.libvirtaction")
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        try:
            # A session of its own: what libvirt starts below it (SSH) ends with it, and finds no terminal to ask at.
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, limit=MAX_ANSWER_BYTES
            )
        except OSError as error:
            return Answer(Kind.AGAIN, f"no process could be started: {error}")
        try:
            async with asyncio.timeout(0.0 if turn.lost else self._limit_s) as turn.limit:
                said, errors = await process.communicate(msgspec.json.encode(order))
        except TimeoutError:
            waited = f"{loop.time() - begun_s:.0f} s, and others waited" if turn.lost else f"{self._limit_s:g} s"
            return Answer(Kind.AGAIN, f"libvirt did not answer within {waited}")
        finally:
            turn.limit = None
            if process.returncode is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        try:
            return msgspec.json.decode(said, type=Answer)
        except msgspec.MsgspecError:
            text = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
            return Answer(Kind.AGAIN, f"the call of libvirt ended with {process.returncode}: {text}")
