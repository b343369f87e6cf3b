"""libvirt over SSH with the panel's own key and known hosts (design 03, rule 7): an address that libvirt can open.

libvirt's client runs `ssh` itself, and would take the configuration, keys and known hosts of whoever runs the panel.
An address may name another program; so it gets a script that is `ssh` with our options.
"""

import shlex
from urllib.parse import quote

from vmwatch.panel.ssh import Ssh, SshError, Target
from vmwatch.panel.store import Host
from vmwatch.shared import conffile

SCRIPT = "vmwatch-libvirt-ssh"
SCRIPT_MODE = 0o700
LAST_WORDS_BYTES = 600
"""libvirt (9.0) has no room for what ssh says of a host key that has changed, and then tells nothing of it."""


class LibvirtSsh:
    """The way to a node's libvirt over SSH, with the key that is for it. In the event loop's thread."""

    def __init__(self, ssh: Ssh) -> None:
        self._ssh = ssh
        self._script = ssh.key.with_name(SCRIPT)

    async def uri(self, host: Host) -> str:
        """Where libvirt's client reaches it. Raises SshError where that is not known, or there can be no key."""
        address = uri_of(Target.of(host.ssh, host.address))
        await self._ssh.make_key()
        ssh = f'{shlex.join(self._ssh.program)} "$@"'
        text = f"#!/bin/sh\n{{ {ssh} 2>&1 >&3 3>&- | tail -c {LAST_WORDS_BYTES} >&2 3>&-; }} 3>&1\n"
        try:
            if not self._script.exists() or self._script.read_text() != text:
                conffile.write_atomically(self._script, text, SCRIPT_MODE)
        except OSError as error:
            raise SshError(f"{self._script} cannot be written: {error.strerror}") from None
        return f"{address}&command={quote(str(self._script))}"

    def explain(self, host: Host, errors: str) -> str:
        """libvirt's words; where a key is wrong, a sentence that says what to do."""
        return self._ssh.fault(Target.of(host.ssh, host.address), errors) or errors


def uri_of(target: Target) -> str:
    """The address without the way to get there."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    return f"qemu+ssh://{target.user}@{host}:{target.port}/system?no_tty=1"
