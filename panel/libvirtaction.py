"""One action of an installation at libvirt, in a process of its own: `python -m vmwatch.panel.libvirtaction`.

A call of libvirt can hang, and a thread in it cannot be ended; a process can. It reads an `Order` as JSON from its
standard input and writes an `Answer` as JSON to its standard output. Each action may be done again: it looks first at
the mark in the definition (`definition`), and does what is not done yet. It never destroys anything.
"""

import ctypes
import os
import signal
import sys
from typing import Any

import msgspec
from msgspec import Struct

from vmwatch.panel.definition import NAMESPACE, DefinitionError, Mark, at_step, mark_of, prepared, restored
from vmwatch.panel.installation import Action, Answer, Boot, Kind, Verb

_PR_SET_PDEATHSIG = 1
MAX_ORDER_BYTES = 64 * 1024


class Order(Struct, frozen=True):
    """What to do, and where. `parent`: the panel's process."""

    uri: str
    uuid: str
    key: str
    boot: Boot
    image: str
    action: Action
    parent: int = 0


def perform(order: Order) -> Answer:
    """Do it. Never raises what libvirt says: that is the answer."""
    try:
        import libvirt
    except ImportError as error:
        return Answer(Kind.FAILED, f"libvirt-python cannot be used on the panel's host: {error}")
    libvirt.registerErrorHandler(lambda context, error: None, None)
    try:
        connection = libvirt.open(order.uri)
    except libvirt.libvirtError as error:
        return Answer(Kind.AGAIN, f"libvirt cannot be reached: {error}")
    try:
        domain = connection.lookupByUUIDString(order.uuid)
        return _VERBS[order.action.verb](libvirt, domain, order)
    except DefinitionError as error:
        return Answer(Kind.FAILED, str(error))
    except libvirt.libvirtError as error:
        return _answer_to_error(libvirt, connection, order, error)
    finally:
        try:
            connection.close()
        except libvirt.libvirtError:
            pass  # it was lost, which the answer says


def _answer_to_error(libvirt: Any, connection: Any, order: Order, error: Any) -> Answer:  # noqa: ANN401
    code, domain = error.get_error_code(), error.get_error_domain()
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        # Nothing is left to put back.
        kind = Kind.DONE if order.action.verb is Verb.RESTORE else Kind.FAILED
        return Answer(kind, "the VM's definition is gone from the node")
    passing = code in (libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_NO_CONNECT)
    lost = domain in (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE) or not _lives(libvirt, connection)
    return Answer(Kind.AGAIN if passing or lost else Kind.FAILED, str(error))


def _lives(libvirt: Any, connection: Any) -> bool:  # noqa: ANN401 - libvirt-python has no types
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False


def _definition(libvirt: Any, domain: Any) -> str:  # noqa: ANN401
    """With what a plain reading leaves out, such as the console's password: it is written back."""
    xml: str = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    return xml


def _define(domain: Any, before: str, after: str) -> None:  # noqa: ANN401
    if after != before:
        domain.connect().defineXML(after)


def _prepare(libvirt: Any, domain: Any, order: Order) -> Answer:  # noqa: ANN401
    if not domain.isPersistent():
        return Answer(Kind.FAILED, "the VM has no definition that lasts (a transient domain)")
    before = _definition(libvirt, domain)
    mark = mark_of(before)
    if mark is None or mark.key != order.key:
        if domain.isActive():
            return Answer(Kind.FAILED, "the VM runs; it must be shut off before an installation")
        if domain.hasManagedSaveImage():
            text = "the VM has a saved state, which a start would go on with; virsh managedsave-remove removes it"
            return Answer(Kind.FAILED, text)
    after = prepared(before, order.key, order.boot, order.image)
    _define(domain, before, after)
    written = mark_of(after)
    return Answer(Kind.DONE, former=msgspec.json.encode(written.former).decode() if written else "")


def _start(libvirt: Any, domain: Any, order: Order) -> Answer:  # noqa: ANN401
    action, before = order.action, _definition(libvirt, domain)
    mark = mark_of(before)
    if mark is None or mark.key != order.key:
        return Answer(Kind.FAILED, "the definition was replaced by somebody: the installation's mark in it is gone")
    if domain.isActive():
        return _judge_run(libvirt, domain, order)
    if mark.step == action.step and mark.disk == action.disk and not action.sure:
        return Answer(Kind.UNSURE)
    # The mark first: should this be cut short, the next attempt knows that the start may have been done.
    _define(domain, before, at_step(before, action.step, disk=action.disk))
    try:
        domain.create()
    except libvirt.libvirtError:
        if domain.isActive():
            return _judge_run(libvirt, domain, order)
        raise
    return Answer(Kind.DONE)


def _judge_run(libvirt: Any, domain: Any, order: Order) -> Answer:  # noqa: ANN401
    """It runs already: is that the start that is wanted?"""
    live: Mark | None = mark_of(domain.XMLDesc(0))
    if live is None or live.key != order.key:
        return Answer(Kind.AGAIN, "the VM was started by somebody with another definition; waiting for its end")
    if live.disk != order.action.disk:
        return Answer(Kind.AGAIN, "the VM was started from the installation medium once more; waiting for its end")
    return Answer(Kind.DONE)


def _restore(libvirt: Any, domain: Any, order: Order) -> Answer:  # noqa: ANN401
    before = _definition(libvirt, domain)
    mark = mark_of(before)
    notes = _restore_run(libvirt, domain, order.key) if domain.isActive() else ""
    if mark is not None and mark.key == order.key:
        _define(domain, before, restored(before))
    return Answer(Kind.DONE, notes)


def _restore_run(libvirt: Any, domain: Any, key: str) -> str:  # noqa: ANN401
    """The mark goes from the running domain too, and a reset restarts it again; returns what could not be done."""
    live = mark_of(domain.XMLDesc(0))
    if live is None or live.key != key:
        return ""
    note = ""
    names = ("destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart")
    kinds = {
        "on_poweroff": libvirt.VIR_DOMAIN_LIFECYCLE_POWEROFF,
        "on_reboot": libvirt.VIR_DOMAIN_LIFECYCLE_REBOOT,
    }
    for name, action in live.former.actions.items():
        if live.disk or action not in names or action == "destroy":
            continue
        try:
            domain.setLifecycleAction(kinds[name], names.index(action), libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except libvirt.libvirtError as error:
            note = f"until it is stopped and started the running VM keeps {name}=destroy: {error}"
    if domain.isActive():
        uri, flags = NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_LIVE
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, None, None, uri, flags)
    return note


_VERBS = {Verb.PREPARE: _prepare, Verb.START: _start, Verb.RESTORE: _restore}


def main() -> None:
    """Read the order, do it, write the answer. It ends with the panel that started it."""
    order = msgspec.json.decode(sys.stdin.buffer.read(MAX_ORDER_BYTES), type=Order)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if order.parent and os.getppid() != order.parent:
        return
    answer = perform(order)
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
