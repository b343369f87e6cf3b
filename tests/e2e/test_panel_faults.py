"""Whatever stands in for the panel's answer, nothing is acknowledged; once it is mended, all is delivered, once."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.proxy import Misbehave, Misbehaviour, Proxy
from tests.testbed.service import Service
from tests.testbed.stack import SERVICE, Stack, short_folder
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until

pytestmark = needs_libvirtd()


def start_and_destroy(daemon: TestDriverDaemon, name: str, times: int) -> None:
    domain = daemon.connection.lookupByName(name)
    for _ in range(times):
        domain.create()
        domain.destroy()


@dataclass(frozen=True)
class Site:
    """A node, and a panel that its master calls through a proxy."""

    daemon: TestDriverDaemon
    proxy: Proxy
    stack: Stack
    node: Service


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = short_folder()
    try:
        stack = Stack(folder)
        libvirt = tmp_path_factory.mktemp("libvirt")
        with TestDriverDaemon(libvirt, domains=("vm",)) as daemon, Proxy(stack.panel.url) as proxy:
            stack.write_master(panel_url=proxy.url)
            with stack:
                yield Site(daemon, proxy, stack, stack.start_node("n", daemon.uri))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("misbehave", "forwarded"),
    [
        (Misbehaviour.not_found, False),
        (Misbehaviour.html_page, False),
        (Misbehaviour.server_error, False),
        (Misbehaviour.forbidden, False),
        (Misbehaviour.redirect, False),
        (Misbehaviour.too_large, False),
        (Misbehaviour.empty_ok, False),
        (Misbehaviour.server_error, True),
        (Misbehaviour.cut_in_half, True),
    ],
    ids=lambda value: getattr(value, "__name__", {True: "after-commit", False: "before-commit"}.get(value)),
)
def test_an_answer_that_settles_nothing_is_not_acknowledged(
    site: Site, misbehave: Misbehave, forwarded: bool
) -> None:
    stack, node, proxy = site.stack, site.node, site.proxy
    stack.wait_drained()
    before = len(stack.panel.events())
    try:
        proxy.forward_first, proxy.misbehave = forwarded, misbehave
        start_and_destroy(site.daemon, "vm", 3)
        wait_until(lambda: node.status["outbox"]["depth"] >= 6, "six events in the outbox")
        tried = sum(proxy.reports.values())
        wait_until(lambda: sum(proxy.reports.values()) >= tried + 3, "three more attempts")
        assert node.status["outbox"]["depth"] >= 6
        if not forwarded:
            assert len(stack.panel.events()) == before
    finally:
        proxy.misbehave = None
    stack.wait_drained()
    events = [row["event"] for row in stack.panel.events()[before:]]
    assert events == ["started", "stopped"] * 3
    # Its node was silent for the panel meanwhile, and is believed again with its next listing.
    wait_until(lambda: stack.panel.vms()[site.daemon.uuid_of("vm")]["vmstatus"] == "shutoff", "the picture")


def test_with_a_wrong_password_nothing_is_acknowledged_until_it_is_mended(short_path: Path, tmp_path: Path) -> None:
    stack = Stack(short_path)
    stack.write_master(panel_password="not the password")
    with TestDriverDaemon(tmp_path / "libvirt", domains=("vm",)) as daemon, stack:
        node = stack.start_node("n", daemon.uri)
        start_and_destroy(daemon, "vm", 2)
        wait_until(lambda: node.status["outbox"]["depth"] >= 4, "four events in the outbox")
        wait_until(lambda: "password" in stack.master.log or "auth" in stack.master.log, "the master to say so")
        assert stack.panel.events() == []
        assert SERVICE[1] not in stack.master.log
        stack.master.terminate()
        stack.write_master()
        stack.master.start()
        stack.wait_drained()
        assert [row["event"] for row in stack.panel.events()] == ["started", "stopped"] * 2
