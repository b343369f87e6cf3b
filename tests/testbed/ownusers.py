"""A machine on which the services have users of their own: in a mount namespace with an /etc of its own.

Users are made there with the system's own tools, and sudo's rules put in place; outside nothing of it is seen.
"""

import shlex
import stat
import subprocess
import sys
from pathlib import Path

from tests.testbed.daemon import needed_programs
from tests.testbed.service import command

ROOT = Path(__file__).resolve().parents[2]
STAGE = "/mnt"
"""A folder that every Debian has and no test uses; it is covered in the namespace alone."""
SUDOERS = ROOT / "packaging" / "sudoers" / "vmwatch"
PROGRAMS = ("unshare", "nsenter", "setpriv", "sudo", "systemd-socket-activate", "useradd", "runuser")


def lacking() -> str:
    """Why these tests must be skipped."""
    return needed_programs(*PROGRAMS)


def sudoers(prefix: Path) -> str:
    """The rules that are shipped, for the commands and the prefix of a test."""
    text = SUDOERS.read_text().replace("/usr/local/mgr5", str(prefix))
    for program in ("vmwatch-nodectl", "vmwatch-servicectl"):
        text = text.replace(f"/usr/sbin/{program}", command(program))
    return text


def enter(folder: Path, prefix: Path, *services: str) -> tuple[str, ...]:
    """A command before a command, which then runs as root where `services` ("master", "node") have their users."""
    rules = folder / "sudoers"
    rules.write_text(sudoers(prefix))
    lines = [
        "set -eu",
        f"mount -t tmpfs -o mode=755 tmpfs {STAGE}",
        f"cp -a /etc {STAGE}/etc",
        f"mount --bind {STAGE}/etc /etc",
        "mount -t tmpfs -o mode=755 tmpfs /run",
        f"install -m 0440 {shlex.quote(str(rules))} /etc/sudoers.d/vmwatch",
        *_expose(),
        *(f"{shlex.quote(str(ROOT / 'packaging' / 'rights'))} {one} {shlex.quote(str(prefix))}" for one in services),
        'exec "$@"',
    ]
    script = folder / "enter"
    script.write_text("\n".join(lines) + "\n")
    return ("unshare", "--mount", "--", "sh", str(script))


def within(pid: int, *words: str, user: str = "", given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in the namespace of process `pid`, as `user` or root."""
    become = ("runuser", "-u", user, "--") if user else ()
    entered = ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "--", *become, *words]
    return subprocess.run(entered, input=given, capture_output=True, text=True, timeout=120, check=False)


def _expose() -> list[str]:
    """What others than root cannot get at, such as an interpreter or a checkout below /root, laid open for them."""
    lines: list[str] = []
    closed: dict[Path, list[Path]] = {}
    for path in dict.fromkeys((ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve())):
        barred = [one for one in reversed(path.parents) if not one.stat().st_mode & stat.S_IXOTH]
        if barred:
            closed.setdefault(barred[0], []).append(path)
    number = 0
    for ancestor, paths in closed.items():
        staged = []
        for path in paths:
            number += 1
            staged.append(f"{STAGE}/{number}")
            lines += [f"mkdir {staged[-1]}", f"mount --bind {shlex.quote(str(path))} {staged[-1]}"]
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(ancestor))}")
        for path, stage in zip(paths, staged, strict=True):
            lines += [f"mkdir -p {shlex.quote(str(path))}", f"mount --bind {stage} {shlex.quote(str(path))}"]
    return lines
