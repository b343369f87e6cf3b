"""`vmwatch deadletter`: messages that the panel refused. It works on the files of the master's host, as their owner.

The files are those of `shared/letters.py`: nothing here needs vmwatch-master to run, and it may run meanwhile.
"""

import getpass
import json
import logging
import os
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from vmwatch.cli.options import console
from vmwatch.cli.table import plain, show_table
from vmwatch.shared import letters, logs
from vmwatch.shared.errors import VmwatchError
from vmwatch.shared.exits import Exit
from vmwatch.shared.letters import Key, Letter, Line
from vmwatch.shared.messages import decode_head, is_plain
from vmwatch.shared.paths import Paths
from vmwatch.shared.serviceuser import become_service_user
from vmwatch.shared.statussocket import read_status

log = logging.getLogger("vmwatch.deadletter")

MASTER = "vmwatch-master"
COLUMNS = ("id", "time", "type", "vm", "reason")
POLL_S = 0.2

app = typer.Typer(no_args_is_help=True, help="Messages that the panel refused; to be run on the master's host.")

Prefix = Annotated[str, typer.Option("--prefix", metavar="FOLDER", help="Where the master's etc and var are.")]
Keys = Annotated[list[str] | None, typer.Argument(metavar="NODE/EPOCH/SEQ", help="Which, as in the list.")]
All = Annotated[bool, typer.Option("--all", help="All of them.")]
OfNode = Annotated[str, typer.Option("--node", metavar="NAME", help="Those of this node.")]


class LetterError(VmwatchError):
    """It could not be done; nothing was lost."""


@app.command("list")
def list_(prefix: Prefix = "", node: OfNode = "") -> None:
    """List them, oldest first."""
    found = letters_of(_read(_paths(prefix)))
    rows = [_row(letter) for letter in found if not node or letter.node == node]
    show_table(console(), rows, COLUMNS)


@app.command()
def show(key: Annotated[str, typer.Argument(metavar="NODE/EPOCH/SEQ", help="Which.")], prefix: Prefix = "") -> None:
    """Show one of them whole: why it was refused, and the message."""
    lines = _read(_paths(prefix))
    for letter in _chosen(lines, [key], every=False, node=""):
        print(json.dumps(json.loads(msgspec.json.encode(letter)), indent=2, ensure_ascii=True))


@app.command()
def replay(
    keys: Keys = None,
    every: All = False,
    node: OfNode = "",
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="For what comes of it, while the master runs.")
    ] = 30.0,
    prefix: Prefix = "",
) -> None:
    """Send them again, through the workers to the panel. What it refuses again is a dead letter again."""
    paths = _paths(prefix)
    lines = _read(paths)
    chosen = _chosen(lines, keys or [], every=every, node=node)
    for letter in chosen:
        if why_not := _why_not(letter):
            raise LetterError(f"{letter.key} cannot be sent again: {why_not}")
    if not chosen:
        print("there is none")
        return
    _append(paths.returned_letters, letters.encode(chosen))
    # Only now: a crash in between leaves it in both, and the panel takes it once.
    _remove(paths, lines, chosen)
    print(f"{len(chosen)} handed to {MASTER}")
    raise typer.Exit(_tell_outcome(paths, {letter.key for letter in chosen}, wait_s))


@app.command()
def discard(
    keys: Keys = None,
    every: All = False,
    node: OfNode = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    prefix: Prefix = "",
) -> None:
    """Give them up for good. It is counted, and logged with who did it."""
    paths = _paths(prefix)
    lines = _read(paths)
    chosen = _chosen(lines, keys or [], every=every, node=node)
    if not chosen:
        print("there is none")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise LetterError("nothing was discarded: --yes says that you mean it")
        if not typer.confirm(f"Discard {len(chosen)} for good? Nobody else has them"):
            raise typer.Exit(Exit.FAILURE)
    by = _who()
    now = logs.iso_time(time.time())
    records = [
        {"time": now, "by": by, "node": letter.node, "epoch": letter.epoch, "seq": letter.seq, "reason": letter.reason}
        for letter in chosen
    ]
    _append(paths.discarded_letters, b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    _remove(paths, lines, chosen)
    _log(paths, [f"dead letter {letter.key} was discarded by {by}; it was: {letter.reason}" for letter in chosen])
    print(f"{len(chosen)} discarded")


def _paths(prefix: str) -> Paths:
    """Raises LetterError where nothing can lie: a folder that is not there is a slip of the pen.

    From here on root is the master's user: what is written is the master's own, and no way to others' files.
    """
    paths = Paths.of(MASTER, prefix or None)
    if not paths.var.is_dir():
        raise LetterError(f"{paths.var} is no folder: --prefix names the one where the master's etc and var are")
    os.environ.setdefault("SUDO_USER", getpass.getuser())  # who began it
    become_service_user(paths)
    return paths


def _read(paths: Paths) -> list[Line]:
    """Raises LetterError."""
    try:
        return letters.read(paths.dead_letters)
    except OSError as error:
        raise LetterError(f"{paths.dead_letters}: cannot be read: {error.strerror}") from None


def letters_of(lines: Iterable[Line]) -> list[Letter]:
    """Those that a line says; half a line of a crash says none."""
    return [line.letter for line in lines if line.letter is not None]


def _chosen(lines: Iterable[Line], keys: Sequence[str], *, every: bool, node: str) -> list[Letter]:
    """The last letter of each that is named. Raises LetterError where one is not there, or none is named."""
    if bool(keys) + every + bool(node) != 1:
        raise LetterError("which? NODE/EPOCH/SEQ, --node NAME or --all is allowed")
    found = {letter.key: letter for letter in letters_of(lines)}
    if every or node:
        return [letter for letter in found.values() if every or letter.node == node]
    try:
        wanted = [Key.parse(key) for key in dict.fromkeys(keys)]
    except ValueError as error:
        raise LetterError(str(error)) from None
    missing = next((key for key in wanted if key not in found), None)
    if missing is not None:
        raise LetterError(f"there is no dead letter {missing}")
    return [found[key] for key in wanted]


def _append(path: Path, lines: bytes) -> None:
    try:
        letters.patiently(lambda: letters.append(path, lines))
    except OSError as error:
        raise LetterError(f"{path}: cannot be written: {error.strerror}; nothing was changed") from None


def _remove(paths: Paths, seen: Iterable[Line], chosen: Iterable[Letter]) -> None:
    """From the dead letters, as they were seen. One that was refused again since then is another line, and stays."""
    keys = {letter.key for letter in chosen}
    texts = {line.text for line in seen if line.letter is not None and line.letter.key in keys}
    try:
        letters.patiently(lambda: letters.rewrite(paths.dead_letters, lambda line: line.text not in texts))
    except OSError as error:
        raise LetterError(f"{paths.dead_letters}: cannot be written: {error.strerror}") from None


def _why_not(letter: Letter) -> str:
    """Why it cannot be sent again; empty if it can."""
    if not letter.is_whole or not is_plain(bytes(letter.message)):
        return "its message is no JSON"
    kind = decode_head(letter.message).type
    return "its message could not be read and was not kept" if kind == "unreadable" else ""


def _tell_outcome(paths: Paths, keys: Collection[Key], wait_s: float) -> int:
    """Wait until the master has none of them any more, and say what came of them; returns the exit code."""
    until = time.monotonic() + wait_s
    while _under_way(paths, keys):
        if not _runs(paths):
            print(f"{MASTER} does not run: they are sent when it does")
            return Exit.OK
        if time.monotonic() >= until:
            print("they are still under way")
            return Exit.OK
        time.sleep(POLL_S)
    refused = [letter for letter in letters_of(_read(paths)) if letter.key in keys]
    print(f"{len(keys) - len(refused)} taken by the panel, {len(refused)} refused again")
    for letter in refused:
        print(f"{letter.key}: {plain(letter.reason)}")
    return Exit.FAILURE if refused else Exit.OK


def _under_way(paths: Paths, keys: Collection[Key]) -> bool:
    try:
        lines = letters.read(paths.returned_letters)
    except OSError as error:
        raise LetterError(f"{paths.returned_letters}: cannot be read: {error.strerror}") from None
    return any(line.letter is not None and line.letter.key in keys for line in lines)


def _runs(paths: Paths) -> bool:
    try:
        read_status(paths.socket)
    except (OSError, ValueError):
        return False
    return True


def _row(letter: Letter) -> dict[str, str]:
    body = msgspec.json.decode(letter.message)
    body = body if isinstance(body, dict) else {}
    vm = body.get("vm")
    return {
        "id": str(letter.key),
        "time": letter.time,
        "type": " ".join(str(body[name]) for name in ("type", "event") if name in body) or "?",
        "vm": str(vm.get("name", "")) if isinstance(vm, dict) else "",
        "reason": letter.reason,
    }


def _who() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = str(os.getuid())
    behind = os.environ.get("SUDO_USER", "")
    return f"{behind} as {name}" if behind and behind != name else name


def _log(paths: Paths, lines: Sequence[str]) -> None:
    """Into the master's log, as a line of its own kind; it is opened for appending by everybody."""
    logs.set_up(str(paths.log), "info")
    for line in lines:
        log.warning("%s", line)
