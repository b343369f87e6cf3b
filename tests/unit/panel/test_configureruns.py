"""Runs of configuring: what is seen of them while they go on, at their end, and when they fail."""

import asyncio

from vmwatch.panel.configurereport import MASTER, Part, Report, Say, port_advice
from vmwatch.panel.configureruns import DEFECT, KEPT, Runs
from vmwatch.shared.errors import ConfigurationError

GOOD = Report((Part(MASTER, True, "works"), Part("a", True, "works")))


def test_lines_are_seen_while_the_work_goes_on_and_the_report_at_its_end() -> None:
    async def story() -> None:
        runs, go_on = Runs(), asyncio.Event()

        async def work(say: Say) -> Report:
            say(MASTER, "first")
            await go_on.wait()
            say("a", "second")
            return GOOD

        run = runs.begin("because", work)
        await run.wait(0, 60)
        assert ([line.text for line in run.lines], run.report) == (["first"], None)
        await run.wait(1, 0.01)  # there is nothing new
        go_on.set()
        assert await run.ended() is GOOD
        assert [line.text for line in run.lines] == ["first", "second"]
        await run.wait(99, 60)  # returns at once: it has ended
        assert runs.find(run.number) is run

    asyncio.run(story())


def test_what_fails_is_told_and_a_defect_is_no_end_of_the_panel() -> None:
    async def story() -> None:
        runs = Runs()

        async def mistaken(say: Say) -> Report:
            raise ConfigurationError("the file is wrong")

        async def defective(say: Say) -> Report:
            raise KeyError

        for work, text in ((mistaken, "the file is wrong"), (defective, DEFECT)):
            report = await runs.begin("because", work).ended()
            assert not report.ok
            assert text in report.text

    asyncio.run(story())


def test_the_end_of_the_panel_ends_what_goes_on_and_says_so() -> None:
    async def story() -> None:
        runs = Runs()

        async def endless(say: Say) -> Report:
            await asyncio.Event().wait()
            return GOOD

        run = runs.begin("because", endless)
        await asyncio.sleep(0)
        await runs.close()
        assert run.report is not None
        assert "the panel stops" in run.report.text

    asyncio.run(story())


def test_only_the_newest_are_kept() -> None:
    async def story() -> None:
        runs = Runs()

        async def work(say: Say) -> Report:
            return GOOD

        for _ in range(KEPT + 20):
            await runs.begin("because", work).ended()
        assert len(runs.all()) == KEPT
        assert runs.all()[0].number == KEPT + 20
        assert runs.find(1) is None

    asyncio.run(story())


def test_a_report_names_what_failed() -> None:
    assert GOOD.ok
    bad = Report((Part(MASTER, True, "works"), Part("a", False, "no"), Part("b", False, "nor this")))
    assert not bad.ok
    assert bad.text == "a: no; b: nor this"


def test_the_command_that_opens_a_port_is_the_firewalls_own() -> None:
    ports = {"tcp://10.0.0.1:1515": "open", "tcp://10.0.0.1:1516": "timeout"}
    assert "--add-port=1516/tcp && firewall-cmd --reload" in port_advice(ports, "firewalld")
    assert "--add-port=1515" not in port_advice(ports, "firewalld")
    assert "dport { 1516 } accept" in port_advice(ports, "nft")
    assert port_advice({"tcp://[2001:db8::1]:1515": "open"}, "nft") == ""
