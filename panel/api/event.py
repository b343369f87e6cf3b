"""`vm.event`: one event, as the original vmwatch-master calls it for each."""

import re
from typing import NamedTuple

from msgspec import Raw

from vmwatch.panel.convention import ApiError, Done, Kind, bad_value, missed
from vmwatch.panel.functions import WORKERS, Call, Function
from vmwatch.panel.registration import register
from vmwatch.panel.removal import note_returns
from vmwatch.panel.writer import Work
from vmwatch.shared.messages import NODE_ID, NODE_ID_ALLOWED, Event, Vm, encode_payload, place_payload
from vmwatch.shared.report import Report, ReportEntry
from vmwatch.shared.states import state_of_event

OWN_EPOCH = 0
"""Where events without a place of their own get one: no node's epoch is 0, so they meet nobody else's."""
MAX_COUNT = 2**53 - 1
_NAME = re.compile(r".{1,1024}", re.DOTALL)
_WORD = re.compile(r"[a-z0-9_]{1,64}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class _Place(NamedTuple):
    epoch: int
    seq: int
    base: int


async def event(call: Call) -> Done:
    """With `epoch` and `seq` idempotent, as a message of a report; without them every call is a new event."""
    params = call.params
    hostnode = params.matching("hostnode", NODE_ID, NODE_ID_ALLOWED, required=True)
    name = params.matching("name", _NAME, "a VM's name, up to 1024 characters,", required=True)
    word = params.matching("event", _WORD, "an event's name, 1 to 64 of a-z 0-9 _,", required=True)
    detail = params.matching("detail", _WORD, "a detail's name, 1 to 64 of a-z 0-9 _,")
    uuid = params.matching("uuid", _UUID, "a UUID in lower case", required=False)
    epoch, seq = params.whole("epoch", 1, MAX_COUNT), params.whole("seq", 1, MAX_COUNT)
    if (epoch is None) != (seq is None):
        raise bad_value("seq" if seq is None else "epoch", "epoch and seq are allowed only together")
    given = None if epoch is None or seq is None else _Place(epoch, seq, 0)

    def job(work: Work) -> int:
        place = given or _own_place(work, hostnode)
        vm = Vm(uuid or _uuid_by_name(work, hostnode, name), name)
        message = Event(place.seq, work.now, vm, word, detail, state_of_event(word))
        entry = ReportEntry(
            hostnode, place.epoch, place.base, messages=[Raw(place_payload(encode_payload(message), place.seq, 0))]
        )
        verdict = register(work.draft, Report("vm.event", [entry]), work.now)[0]
        if verdict.refused:
            refusal = verdict.refused[0]
            raise ApiError(Kind(refusal.type), refusal.object, refusal.msg)
        note_returns(work, [hostnode])
        return verdict.applied

    applied = await call.panel.writer.do(job)
    call.panel.counters["messages.applied" if applied else "messages.known"] += 1
    return Done({"hostnode": hostnode, "name": name, "event": word})


def _own_place(work: Work, hostnode: str) -> _Place:
    """The next place of the node's own epoch. Its base follows, and is stored: it is the counter, and keeps one key."""
    last = work.draft.epoch((hostnode, OWN_EPOCH))
    seq = 1 + (last.base if last else 0)
    return _Place(OWN_EPOCH, seq, seq)


def _uuid_by_name(work: Work, hostnode: str, name: str) -> str:
    """Raises ApiError if none of the node's VMs is called so, or more than one."""
    claims = work.draft.claims_of_node(hostnode)
    found = [uuid for uuid, claim in claims.items() if claim.name == name]
    if not found:
        raise missed("vm", name)
    if len(found) > 1:
        raise bad_value("name", f"{len(found)} VMs of {hostnode} are called so; uuid is required", name)
    return found[0]


FUNCTIONS = (Function("vm.event", event, WORKERS, changes=True),)
