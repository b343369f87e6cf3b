"""Live pages: mailboxes that coalesce and are bounded, and streams that end."""

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

import msgspec
import pytest

from vmwatch.panel import live as live_module
from vmwatch.panel.board import Board, Change, VmRow
from vmwatch.panel.events import Numbered
from vmwatch.panel.knowledge import EventRow
from vmwatch.panel.live import MOST_CLIENTS, MOST_EVENTS, Live, Mailbox, Stream
from vmwatch.shared.states import State


def vm(name: str, state: State = State.RUNNING, stamp: int = 0) -> VmRow:
    return VmRow(1, f"uuid-{name}", name, "kvm-01", state, 1.0, stamp)


def numbered(number: int) -> Numbered:
    return number, EventRow("kvm-01", 5, number, 1.0, 2.0, "uuid-a", "a", "started", "booted", "running")


def live(last_event: int = 0) -> Live:
    board = Board()
    board.run = "run"
    board._last_event = last_event
    return Live(board)


async def no_events(after: int) -> list[Numbered]:
    return []


class Client:
    """A browser's side of a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.gone = asyncio.Event()
        self.stuck = False
        self.sent: list[MutableMapping[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        self.sent.append(message)

    async def run(self) -> None:
        await self.stream({"type": "http"}, self.receive, self.send)

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line[6:]) for line in self.text.splitlines() if line.startswith('data: {"')]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)


def test_a_mailbox_keeps_the_newest_word_on_a_vm_and_each_event_once() -> None:
    box = Mailbox(seen=3)
    box.add(Change(vms=[vm("a"), vm("b")], events=[numbered(3), numbered(4)]))
    box.add(Change(vms=[vm("a", State.PAUSED)], gone=["uuid-b"]))
    change = box.take()
    assert [(row.name, row.state) for row in change.vms] == [("a", State.PAUSED)]
    assert change.gone == ["uuid-b"]
    assert [number for number, _ in change.events] == [4]
    assert box.take() == Change()


def test_a_mailbox_that_is_not_emptied_holds_a_bounded_number_of_events_and_says_that_some_are_lost() -> None:
    box = Mailbox(seen=0)
    for number in range(1, 3 * MOST_EVENTS):
        box.add(Change(events=[numbered(number)]))
    assert box.lost
    assert len(box.take().events) <= MOST_EVENTS


def test_clients_are_bounded_and_make_room_when_they_leave() -> None:
    clients = live()
    boxes = [clients.join(0, "run") for _ in range(MOST_CLIENTS)]
    assert clients.join(0, "run") is None
    assert boxes[0] is not None
    clients.leave(boxes[0])
    assert clients.join(0, "run") is not None


def start(
    clients: Live,
    seen: int = 0,
    run: str = "run",
    missed: Callable[[int], Any] = no_events,
    holds: Callable[[], bool] = lambda: True,
) -> Client:
    clients.start(asyncio.get_running_loop())
    box = clients.join(seen, run)
    assert box is not None
    return Client(Stream(clients, box, missed, holds))


def test_changes_of_one_moment_come_in_one_message_with_the_last_events_id() -> None:
    async def scenario() -> None:
        clients = live()
        client = start(clients)
        task = asyncio.ensure_future(client.run())
        await client.until(lambda: len(client.messages) == 1)
        for number in range(1, 21):
            clients.board.on_change(Change(vms=[vm("a")], events=[numbered(number)]))
        await client.until(lambda: "id: 20\n" in client.text)
        assert len(client.messages) == 2
        assert [row["id"] for row in client.messages[1]["events"]] == [str(number) for number in range(1, 21)]
        client.gone.set()
        await task
        assert clients.clients == 0

    asyncio.run(scenario())


def test_a_client_that_comes_back_gets_what_it_missed() -> None:
    async def missed(after: int) -> list[Numbered]:
        return [numbered(number) for number in range(after + 1, 8)]

    async def scenario() -> None:
        client = start(live(last_event=7), seen=5, missed=missed)
        task = asyncio.ensure_future(client.run())
        await client.until(lambda: "id: 7\n" in client.text)
        assert [row["id"] for row in client.messages[0]["events"]] == ["6", "7"]
        client.gone.set()
        await task

    asyncio.run(scenario())


@pytest.mark.parametrize("lost", ["another run of the panel", "an id from the future", "too many events"])
def test_a_client_that_missed_more_than_is_remembered_is_told_to_load_anew(lost: str) -> None:
    async def too_many(after: int) -> list[Numbered]:
        return [numbered(number) for number in range(MOST_EVENTS + 1)]

    async def scenario() -> None:
        run = "old" if lost == "another run of the panel" else "run"
        seen = 9 if lost == "an id from the future" else 0
        client = start(live(), seen=seen, run=run, missed=too_many if lost == "too many events" else no_events)
        await client.run()
        assert "event: reset\n" in client.text

    asyncio.run(scenario())


def test_a_client_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "SEND_LIMIT_S", 0.02)

    async def scenario() -> None:
        clients = live()
        client = start(clients)
        task = asyncio.ensure_future(client.run())
        await client.until(lambda: len(client.messages) == 1)
        client.stuck = True
        clients.board.on_change(Change(vms=[vm("a")]))
        await task
        assert (clients.clients, clients.dropped) == (0, 1)

    asyncio.run(scenario())


def test_a_stream_ends_when_the_panel_stops_or_the_proof_no_longer_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "BEAT_S", 0.02)

    async def scenario() -> None:
        clients = live()
        holding = True
        client, other = start(clients), start(clients, holds=lambda: holding)
        tasks = [asyncio.ensure_future(each.run()) for each in (client, other)]
        await other.until(lambda: ": still here" in other.text)
        holding = False
        await tasks[1]
        assert not tasks[0].done()
        clients.close()
        await tasks[0]
        assert client.sent[-1]["more_body"] is False
        assert clients.join(0, "run") is None

    asyncio.run(scenario())
