"""Does libvirt answer? As a process of the agent's own user: `python -m vmwatch.node.libvirtlook ADDRESS`.

An address of libvirt may name a program that libvirt then runs. The agent's user may write it, so root must not open
it; and it is that user who has to be let in.
"""

import os
import subprocess
import sys

import msgspec

from vmwatch.shared.nodectl import Check
from vmwatch.shared.serviceuser import User

NAME = "libvirt"


def look(uri: str) -> Check:
    """In this process; may hang."""
    try:
        import libvirt
    except ImportError as error:
        return Check(NAME, False, f"cannot be asked: {error}")
    libvirt.registerErrorHandler(lambda context, error: None, None)  # it would print each error, too
    try:
        connection = libvirt.openReadOnly(uri)
        try:
            version, domains = connection.getLibVersion(), len(connection.listAllDomains())
        finally:
            connection.close()
    except libvirt.libvirtError as error:
        return Check(NAME, False, f"{uri} cannot be reached: {error}")
    label = f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
    return Check(NAME, True, f"{uri} answers: libvirt {label}, {domains} domains")


def look_as(user: User, uri: str, limit_s: float) -> Check:
    """As `user`, of root only."""
    command = [sys.executable, "-m", "vmwatch.node.libvirtlook", uri]
    try:
        ran = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
            check=False,
            cwd="/",
            user=user.uid,
            group=user.gid,
            extra_groups=sorted(user.groups),
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        )
        return msgspec.json.decode(ran.stdout, type=Check)
    except subprocess.TimeoutExpired:
        return Check(NAME, False, f"{uri} does not answer within {limit_s:g} s")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        told = ran.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return Check(NAME, False, f"{uri} cannot be looked at by {user.name}: {told or f'exit code {ran.returncode}'}")
    except (OSError, subprocess.SubprocessError) as error:
        return Check(NAME, False, f"{uri} cannot be looked at by {user.name}: {error}")


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(look(sys.argv[1])).decode())
