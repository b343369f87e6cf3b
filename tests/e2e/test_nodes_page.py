"""The page of nodes in a real browser: what changes is seen without loading it anew."""

from playwright.sync_api import Page, expect

from tests.e2e import test_pages
from tests.e2e.test_pages import PHONE, browser, is_live, page, panel, settle, sign_in  # noqa: F401 - fixtures
from tests.testbed.stack import Panel
from tests.unit.panel.reports import NODE, entry, event

pytestmark = test_pages.pytestmark


def test_the_masters_maintenance_comes_and_goes_while_the_page_is_open(page: Page, panel: Panel) -> None:  # noqa: F811
    sign_in(page, panel, "func=vmhostnode")
    is_live(page)
    note = page.locator("#master-maintenance")
    expect(note).to_be_hidden()
    panel.change("vmwatch.maintenance.edit", elid="vmwatch-master", **{"for": "3600"})
    expect(note).to_be_visible()
    expect(note).to_contain_text("vmwatch-master: maintenance until ")
    panel.change("vmwatch.maintenance.edit", elid="vmwatch-master", end="on")
    expect(note).to_be_hidden()


def test_that_a_removed_node_reports_is_seen_until_somebody_keeps_it(page: Page, panel: Panel) -> None:  # noqa: F811
    settle(panel, entry(event(1)))
    panel.change("vmhostnode.delete", elid=NODE)
    settle(panel, entry(event(2)))
    sign_in(page, panel, "func=vmhostnode")
    is_live(page)
    row = page.locator(f'tr[data-key="{NODE}"]')
    expect(row).to_contain_text("removed, reports")
    panel.change("vmhostnode.edit", elid=NODE, address="192.0.2.7")
    expect(row).not_to_contain_text("removed, reports")


def test_on_a_phone_the_name_of_a_node_in_maintenance_stays_in_one_piece(page: Page, panel: Panel) -> None:  # noqa: F811
    settle(panel, entry(event(3)))
    panel.change("vmwatch.maintenance.edit", elid=NODE, **{"for": "3600"})
    try:
        sign_in(page, panel, "func=vmhostnode")
        page.set_viewport_size({"width": PHONE, "height": 760})
        row = page.locator(f'tr[data-key="{NODE}"]')
        expect(row).to_contain_text("maintenance until ")
        assert row.locator(".name a").evaluate("name => name.getClientRects().length") == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    finally:
        panel.change("vmwatch.maintenance.edit", elid=NODE, end="on")
