"""Reaches the hypervisors to install (design 03, rule 7): where each is, and actions there that never hold up anybody.

Each action is a process of its own (`libvirtaction`), because a call of libvirt, or the SSH below it, can hang and
only a process can be ended. Their number is bounded, and one that does not answer in time is killed: so a hung node
delays no page and, but for the time limit, no other node.
"""

import asyncio
import os
import re
import signal
import sys
from contextlib import suppress

import msgspec

from vmwatch.panel.installation import Action, Answer, Installation, Kind
from vmwatch.panel.libvirtaction import Order
from vmwatch.panel.store import Host

ACTION_LIMIT_S = 120.0
"""A start by a system-wide libvirtd was seen to take 52 s."""
MOST_ACTIONS = 16
"""At a time, on all nodes together."""
MOST_ON_NODE = 2
"""At a time on one node, so that a hung one does not take all places."""
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
    if host.reach == "ssh" and host.address:
        address = f"[{host.address}]" if host.address.count(":") > 1 else host.address
        return f"qemu+ssh://{address}/system?no_tty=1"
    return ""


class Hypervisors:
    """Performs actions. For the event loop's thread."""

    def __init__(self, limit_s: float = ACTION_LIMIT_S) -> None:
        self._limit_s = limit_s
        self._places = asyncio.Semaphore(MOST_ACTIONS)
        self._on_node: dict[str, asyncio.Semaphore] = {}

    async def perform(self, installation: Installation, action: Action, host: Host | None) -> Answer:
        """libvirt's answer. One that is not had in time is AGAIN: each action looks first what was done already."""
        if host is None or host.hidden:
            return Answer(Kind.FAILED, f"the node {installation.node} was removed from the panel")
        uri = libvirt_uri(host)
        if not uri:
            return Answer(Kind.FAILED, f"it is not known how to reach libvirt on {host.name} (reach, libvirt_uri)")
        what = installation.uuid, installation.key, installation.boot, installation.image
        order = Order(uri, *what, action, os.getpid())
        on_node = self._on_node.setdefault(host.name, asyncio.Semaphore(MOST_ON_NODE))
        async with on_node, self._places:
            return await self._run(order)

    async def _run(self, order: Order) -> Answer:
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "vmwatch.panel.libvirtaction")
        try:
            # A session of its own: what libvirt starts below it (SSH) ends with it, and finds no terminal to ask at.
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, limit=MAX_ANSWER_BYTES
            )
        except OSError as error:
            return Answer(Kind.AGAIN, f"no process could be started: {error}")
        try:
            async with asyncio.timeout(self._limit_s):
                said, errors = await process.communicate(msgspec.json.encode(order))
        except TimeoutError:
            return Answer(Kind.AGAIN, f"libvirt did not answer within {self._limit_s:g} s")
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        try:
            return msgspec.json.decode(said, type=Answer)
        except msgspec.MsgspecError:
            text = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
            return Answer(Kind.AGAIN, f"the call of libvirt ended with {process.returncode}: {text}")
