"""Configuring in a real browser: a node is added on the page, and what happens is seen while it happens."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e import test_pages
from tests.e2e.test_pages import browser, page, sign_in  # noqa: F401 - fixtures
from tests.integration.test_panel_api import set_user
from tests.testbed.supervised import PanelHost

pytestmark = test_pages.pytestmark
LIMIT_MS = 120_000


@pytest.fixture
def host(short_path: Path) -> Iterator[PanelHost]:
    with PanelHost(short_path, f"qemu+unix:///system?socket={short_path}/nobody") as made:
        made.wait_panel()
        yield made


def test_a_node_is_added_and_removed_on_the_page_and_what_is_done_is_seen_to_the_end(
    page: Page,  # noqa: F811
    host: PanelHost,
) -> None:
    sign_in(page, host.panel, "func=vmhostnode")
    page.get_by_text("Add a node").click()
    page.get_by_label("Name").fill("kvm-01")
    page.get_by_label("How it is reached").select_option("local")
    page.get_by_role("button", name="Add and configure").click()
    expect(page.get_by_role("heading", name="Configuring")).to_be_visible()
    expect(page.locator("#run-state")).to_have_text("done", timeout=LIMIT_MS)
    lines = page.locator("#progress tbody tr")
    expect(lines.filter(has_text="MISSING: qemu+unix:///system")).to_have_count(1)
    expect(lines.filter(has_text="kvm-01").last).to_contain_text("hears the master")
    for told in page.locator("#progress tbody .time").all_inner_texts():
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", told)
    seen = lines.all_inner_texts()
    page.reload()  # what was shown live is what is kept
    expect(page.locator("#run-state")).to_have_text("done")
    assert [text.split("\t")[1:] for text in page.locator("#progress tbody tr").all_inner_texts()] == [
        text.split("\t")[1:] for text in seen
    ]
    page.get_by_role("link", name="To the nodes").click()
    page.get_by_role("button", name="Configure all services").click()
    expect(page.locator("#run-state")).to_have_text("done", timeout=LIMIT_MS)
    expect(lines.filter(has_text="runs as before")).to_have_count(1)
    page.get_by_role("link", name="To the nodes").click()
    page.get_by_text("Add a node").click()
    page.get_by_label("Name").fill("kvm-02")
    page.get_by_label("How it is reached").select_option("local")
    page.get_by_role("button", name="Add and configure").click()
    expect(page.get_by_role("alert")).to_contain_text("the node kvm-01 is on that machine already")
    page.get_by_role("link", name="To the nodes").click()
    page.get_by_text("Remove", exact=True).click()
    page.get_by_role("button", name="Remove kvm-01").click()
    expect(page.locator("#run-state")).to_have_text("done", timeout=LIMIT_MS)
    expect(lines.filter(has_text="kvm-01").first).to_contain_text("vmwatch-node is stopped and its")
    expect(lines.filter(has_text="vmwatch-master").last).to_contain_text("disabled, and stopped")
    page.get_by_role("link", name="To the nodes").click()
    expect(page.locator("#empty")).to_be_visible()


def test_a_viewer_has_no_way_to_configure(page: Page, host: PanelHost) -> None:  # noqa: F811
    set_user(host.panel, "viewer", "a viewer's password", "viewer")
    page.goto(f"{host.panel.url}?func=vmhostnode")
    page.get_by_label("Name").fill("viewer")
    page.get_by_label("Password").fill("a viewer's password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Nodes")).to_be_visible()
    expect(page.get_by_text("Add a node")).to_have_count(0)
    expect(page.get_by_text("Remove", exact=True)).to_have_count(0)
    page.goto(f"{host.panel.url}?func=vmwatch.configure.progress")
    expect(page.get_by_role("alert")).to_contain_text("is for admin")
