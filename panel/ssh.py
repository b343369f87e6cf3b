"""OpenSSH as the panel uses it for nodes: where a node is, the panel's own key, and which host keys are known.

The system's programs do the work (ssh, ssh-keygen, ssh-keyscan). Keys and known hosts are the panel's own, in the
prefix: nobody's agent, configuration or known hosts are read, and no password is ever asked for. Each key is for one
command there (`Purpose`): who lets the panel look after vmwatch-node has not let it change domains.
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmwatch.shared import conffile, nodectl
from vmwatch.shared.errors import VmwatchError
from vmwatch.shared.paths import Paths

USER, PORT = "root", 22
SSH_ADDRESS = re.compile(
    r"([A-Za-z_][A-Za-z0-9_.-]{0,31}@)?(\[[0-9A-Fa-f:]{2,39}\]|[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(:[0-9]{1,5})?"
)
SSH_ADDRESS_ALLOWED = "[USER@]HOST[:PORT], IPv6 in brackets,"
TRUST = "vmwatch node trust NODE, or Host key on the page Nodes"
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
CONNECT_LIMIT_S = 10
SCAN_LIMIT_S = 10
PROGRAM_LIMIT_S = 30.0
_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "GlobalKnownHostsFile=/dev/null",
    "UpdateHostKeys=no",
    "CheckHostIP=no",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "PreferredAuthentications=publickey",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    f"ConnectTimeout={CONNECT_LIMIT_S}",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "LogLevel=ERROR",
)


@dataclass(frozen=True)
class Purpose:
    """What a key of the panel is for: the one command that it may run there.

    `key`: its file; `shown`: the command that prints its line.
    """

    key: str
    command: str
    shown: str


CONTROL = Purpose("vmwatch-ssh-key", nodectl.COMMAND, "vmwatch node key")
INSTALL = Purpose("vmwatch-libvirt-key", "virt-ssh-helper qemu:///system", "vmwatch node key --install")
"""libvirt's own helper, which hands on what comes to its socket there: libvirt's client calls it by `qemu+ssh`."""


class SshError(VmwatchError):
    """A node cannot be reached over SSH; the text says why, and what to do."""


@dataclass(frozen=True)
class Target:
    """Where a node is for SSH."""

    user: str
    host: str
    port: int

    @classmethod
    def of(cls, ssh: str, address: str) -> "Target":
        """From a node's `ssh` ([USER@]HOST[:PORT]), or, where that is empty, its address. Raises SshError."""
        text = ssh or (f"[{address}]" if ":" in address else address)
        found = SSH_ADDRESS.fullmatch(text)
        if found is None:
            raise SshError(f"it is not known where it is: ssh or address is needed, {SSH_ADDRESS_ALLOWED} not {text!r}")
        port = int((found[4] or f":{PORT}")[1:])
        if not 1 <= port <= 65535:
            raise SshError(f"{text!r} has no port from 1 to 65535")
        return cls((found[1] or f"{USER}@")[:-1], found[2].strip("[]"), port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" + (f":{self.port}" if self.port != PORT else "")


@dataclass(frozen=True)
class HostKey:
    """A host's public key. `line`: as known hosts have it."""

    kind: str
    fingerprint: str
    line: str
    known: bool


class Ssh:
    """Our key for a purpose, and known hosts, in the prefix."""

    def __init__(self, paths: Paths, purpose: Purpose = CONTROL) -> None:
        self._etc = paths.etc
        self._purpose = purpose
        self.key = paths.etc / purpose.key
        self.known_hosts = paths.etc / "vmwatch-ssh-known-hosts"
        self._lock = asyncio.Lock()

    @property
    def program(self) -> list[str]:
        """ssh with our key and known hosts; where to and what for is to follow."""
        options = [word for option in (*_OPTIONS, f"UserKnownHostsFile={self.known_hosts}") for word in ("-o", option)]
        return ["ssh", "-F", "none", "-T", "-i", str(self.key), *options]

    def command(self, target: Target) -> list[str]:
        """What runs the purpose's command there."""
        where = ["-l", target.user, "-p", str(target.port), "--", target.host]
        return [*self.program, *where, self._purpose.command]

    async def authorized(self) -> str:
        """The line for a node's authorized_keys: with our key that one command can be run there, and nothing else."""
        await self.make_key()
        return self._line()

    async def make_key(self) -> None:
        """Our key pair, if there is none yet. Raises SshError."""
        async with self._lock:
            if self.key.exists():
                return
            self._etc.mkdir(parents=True, exist_ok=True)
            comment = f"vmwatch@{socket.gethostname()}"
            await _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(self.key)])

    async def scan(self, target: Target) -> list[HostKey]:
        """The host keys that answer there now: whose they are only a person can say. Raises SshError."""
        command = ["ssh-keyscan", "-T", str(SCAN_LIMIT_S), "-p", str(target.port), "--", target.host]
        lines = [line for line in (await _run(command, strict=False)).splitlines() if line and not line.startswith("#")]
        if not lines:
            raise SshError(f"no SSH server answers at {target}")
        known = self._known()
        found = []
        for line in lines:
            told = await _run(["ssh-keygen", "-l", "-E", "sha256", "-f", "-"], f"{line}\n")
            fingerprint = FINGERPRINT.search(told)
            if fingerprint:
                found.append(HostKey(line.split()[1], fingerprint[0], line, line in known))
        return sorted(found, key=lambda key: (key.kind != "ssh-ed25519", key.kind))

    async def trust(self, target: Target, fingerprint: str) -> HostKey:
        """From now on this is the host's key, in place of any other. Raises SshError if it does not show that one."""
        keys = await self.scan(target)
        chosen = next((key for key in keys if key.fingerprint == fingerprint), None)
        if chosen is None:
            shown = ", ".join(f"{key.fingerprint} ({key.kind})" for key in keys)
            raise SshError(f"{target} shows {shown}, and not {fingerprint}; nothing is trusted")
        async with self._lock:
            name = chosen.line.split()[0]
            others = [line for line in self._known() if line.split()[0] != name]
            conffile.write_atomically(self.known_hosts, "".join(f"{line}\n" for line in [*others, chosen.line]))
        return chosen

    def explain(self, target: Target, errors: str) -> str:
        """ssh's own words as a sentence that says what to do."""
        last = errors.strip().rpartition("\n")[2].strip() or "ssh ended without a word"
        return self.fault(target, errors) or f"{target} cannot be reached over SSH: {last}"

    def fault(self, target: Target, errors: str) -> str:
        """The same where it is a key that is wrong; empty if it is not."""
        if "REMOTE HOST IDENTIFICATION HAS CHANGED" in errors or "has changed and you have requested" in errors:
            return f"{target} shows another host key than the known one; if that is right: {TRUST}"
        if "Host key verification failed" in errors or "host key is known" in errors:
            return f"the host key of {target} is not known; look at its fingerprint, then: {TRUST}"
        if "Permission denied" in errors:
            return f"{target} does not accept the panel's key; put this line into its authorized_keys: {self._line()}"
        return ""

    def _line(self) -> str:
        try:
            public = self.key.with_name(f"{self.key.name}.pub").read_text().strip()
        except OSError:
            return f"({self._purpose.shown} prints it)"
        return f'command="{self._purpose.command}",restrict {public}'

    def _known(self) -> list[str]:
        try:
            return [line.strip() for line in self.known_hosts.read_text().splitlines() if line.strip()]
        except FileNotFoundError:
            return []


async def _run(command: Sequence[str], given: str = "", *, strict: bool = True) -> str:
    """What a program of OpenSSH prints. Raises SshError if it fails or hangs."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        raise SshError(f"{command[0]} cannot be run ({error.strerror}); OpenSSH's client is needed") from None
    try:
        async with asyncio.timeout(PROGRAM_LIMIT_S):
            said, errors = await process.communicate(given.encode())
    except TimeoutError:
        raise SshError(f"{command[0]} did not end within {PROGRAM_LIMIT_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if strict and process.returncode:
        raise SshError(f"{Path(command[0]).name}: {errors.decode(errors='replace').strip()}")
    return said.decode(errors="replace")
