"""What the master's file and the nodes' files shall say (design 04, *vmwatch.configure*). A core without I/O.

Chance comes from outside (`fresh`): the same input gives the same files, so a second run finds nothing to do.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vmwatch.panel.configureaddress import Found
from vmwatch.shared.endpoints import Endpoint, parse_endpoint
from vmwatch.shared.keys import node_key

SECRET = re.compile(r"[A-Z0-9]+")
SECRET_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
SECRET_LENGTH = 32
Values = Mapping[str, str | None]
"""What to set in a file, by name; None: the name goes."""


@dataclass(frozen=True)
class Wish:
    """What the caller wants beside files that are right. `lift`: a `disabled=yes` that somebody wrote goes, too."""

    rotate: bool = False
    forget_previous: bool = False
    lift: bool = True


@dataclass(frozen=True)
class Plan:
    """`disabled`: the master shall not run."""

    master: Values
    nodes: Mapping[str, Values]
    disabled: bool
    notes: tuple[str, ...]


def new_secret(choose: Callable[[Sequence[str]], str]) -> str:
    """32 of A-Z 0-9, each chosen by `choose` (`secrets.choice`)."""
    return "".join(choose(SECRET_LETTERS) for _ in range(SECRET_LENGTH))


def make_plan(
    present: Mapping[str, str], address: Found, port: int, nodes: Sequence[str], panel: Values, fresh: str, wish: Wish
) -> Plan:
    """`present`: what the master's file says now, as far as it is allowed. `panel`: how workers reach the panel.

    `fresh`: a secret to take where a new one is needed.
    """
    notes = [f"vmwatch-master listens on port {port}: {address.why}", *address.warnings]
    secret, previous = _secrets(present, fresh, wish, notes)
    listen = Endpoint(address.listen, port)
    ack_listen = _ack_listen(present, listen)
    stays = bool(nodes) and present.get("disabled") == "yes" and not wish.lift
    if stays:
        notes.append("disabled=yes in the master's file was set on purpose, and stays")
    elif not nodes:
        notes.append("there is no node in the cluster: vmwatch-master is disabled until the first one is added")
    master: dict[str, str | None] = {
        "disabled": "yes" if stays or not nodes else None,
        "listen": str(listen),
        "ack_listen": str(ack_listen) if ack_listen else None,
        "secret": secret,
        "secret_previous": previous or None,
        **panel,
    }
    shared = present.get("per_node_keys") == "no"
    connect = Endpoint(address.connect, port)
    ack_connect = Endpoint(address.connect, ack_listen.port) if ack_listen else None
    files = {name: node_values(name, secret, connect, ack_connect, shared) for name in nodes}
    return Plan(master, files, stays or not nodes, tuple(notes))


def node_values(
    name: str, secret: str, connect: Endpoint, ack_connect: Endpoint | None, shared: bool
) -> dict[str, str | None]:
    """What a node's file says. With its own key alone a hypervisor cannot speak for another one."""
    return {
        "connect": str(connect),
        "ack_connect": str(ack_connect) if ack_connect else None,
        "node_id": name,
        "node_key": None if shared else node_key(secret, name).hex(),
        "secret": secret if shared else None,
    }


def files_of(present: Mapping[str, str], nodes: Sequence[str]) -> Mapping[str, Values]:
    """What the nodes' files say that fit this master's file; nothing where it says too little for that."""
    try:
        listen, secret = parse_endpoint(present["listen"]), present["secret"]
        ack_listen = parse_endpoint(present["ack_listen"]) if "ack_listen" in present else None
    except (KeyError, ValueError):
        return {}
    shared = present.get("per_node_keys") == "no"
    return {name: node_values(name, secret, listen, ack_listen, shared) for name in nodes}


def values_text(values: Values) -> str:
    """The text of a file with these values alone: what is printed for who writes it himself."""
    return "".join(f"{name}={value}\n" for name, value in values.items() if value is not None)


def _secrets(present: Mapping[str, str], fresh: str, wish: Wish, notes: list[str]) -> tuple[str, str]:
    """(secret, secret_previous)."""
    secret, previous = present.get("secret", ""), present.get("secret_previous", "")
    if not SECRET.fullmatch(secret):
        notes.append("a new secret is made")
        return fresh, ""
    if wish.rotate:
        notes.append("a new secret is made; the old one is accepted as well (secret_previous)")
        return fresh, secret
    if wish.forget_previous and previous:
        notes.append("secret_previous is not accepted any more")
        return secret, ""
    return secret, previous


def _ack_listen(present: Mapping[str, str], listen: Endpoint) -> Endpoint | None:
    """None: the port after `listen`. A port that an operator has chosen stays, on the address that holds now."""
    try:
        chosen, before = parse_endpoint(present["ack_listen"]), parse_endpoint(present["listen"])
    except (KeyError, ValueError):
        return None
    moved = Endpoint(listen.host, chosen.port)
    return None if chosen.port in (before.port + 1, listen.port) or moved == listen.following() else moved
