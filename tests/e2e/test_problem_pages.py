"""The pages of problems in a real browser: *Solve now* with its progress live, the log, and on a phone."""

import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.test_pages import PHONE, browser, is_live, page, pytestmark, sign_in  # noqa: F401 - fixtures
from tests.integration.test_panel_api import post, set_user
from tests.integration.test_solving_problems import register
from tests.testbed.solvingpanel import SolvingPanel
from tests.testbed.stack import short_folder

VIEWER = ("viewer", "a viewer's password")
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def panel() -> Iterator[SolvingPanel]:
    """One for all tests; the last one kills it."""
    folder = short_folder()
    folder.mkdir()
    try:
        with SolvingPanel(folder) as panel:
            yield panel
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_solve_now_shows_its_progress_live_and_what_came_of_it(page: Page, panel: SolvingPanel) -> None:  # noqa: F811
    register(panel, "kvm-01")
    sign_in(page, panel, "func=problems")
    is_live(page)
    row = page.locator("#rows tbody tr", has_text="kvm-01 is ill")
    expect(row.locator(".solving")).to_contain_text("0 of 5 attempts, next ")
    row.get_by_role("button", name="Solve now").click()
    expect(page.get_by_role("heading", name="vmwatch_node_stopped")).to_be_visible()
    is_live(page)
    progress = page.locator("#progress")
    expect(progress.locator("pre")).to_have_text("looks at kvm-01")
    expect(page.locator("#facts .state")).to_have_text("solving")
    expect(page.get_by_role("button", name="Solve now")).to_have_count(0)
    panel.end("kvm-01", 9)
    expect(page.locator("#facts .state")).to_have_text("failed")
    expect(progress).to_be_hidden()
    attempt = page.locator("#attempts details").first
    expect(attempt).to_contain_text("by admin the script ended with 9")
    expect(attempt.locator("pre")).to_have_text("looks at kvm-01\nhas seen <b>enough</b>")
    panel.end("kvm-01")
    page.get_by_role("button", name="Solve now").click()
    expect(page.locator("#facts .state")).to_have_text("solved")
    expect(page.locator("#attempts details")).to_have_count(2)
    page.get_by_role("link", name="all problems").click()
    expect(page.locator("#rows tbody tr", has_text="kvm-01 is ill").locator(".state")).to_have_text("solved")


def test_what_a_person_must_do_is_said_where_nothing_else_can(page: Page, panel: SolvingPanel) -> None:  # noqa: F811
    elid = register(panel, "kvm-02", "clock_skew")
    sign_in(page, panel, f"func=problems.log&plid={elid}")
    expect(page.locator(".advice")).to_have_text("A person must act. Set the node's clock, and have it kept by NTP.")
    expect(page.get_by_role("button", name="Solve now")).to_have_count(0)


def test_how_a_problem_is_resolved_automatically_is_changed_on_its_page(
    page: Page,  # noqa: F811
    panel: SolvingPanel,
) -> None:
    elid = register(panel, "kvm-03")
    sign_in(page, panel, f"func=problems.log&plid={elid}")
    expect(page.locator("#facts .status")).to_have_text(re.compile("0 of 5 attempts, next "))
    page.get_by_role("switch", name="Resolve automatically").uncheck()
    page.get_by_label("Attempts at most").fill("3")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#facts .status")).to_contain_text("0 of 3 attempts, not automatic")
    expect(page.get_by_role("switch", name="Resolve automatically")).not_to_be_checked()


def test_a_viewer_sees_the_log_and_no_way_to_solve(page: Page, panel: SolvingPanel) -> None:  # noqa: F811
    set_user(panel, *VIEWER, "viewer")
    elid = register(panel, "kvm-04")
    page.goto(f"{panel.url}?func=problems.log&plid={elid}")
    page.get_by_label("Name").fill(VIEWER[0])
    page.get_by_label("Password").fill(VIEWER[1])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("None yet.")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Solve now|Save"))).to_have_count(0)


@pytest.mark.parametrize("func", ["problems", "problems.log"])
def test_no_page_of_problems_is_wider_than_a_phone(page: Page, panel: SolvingPanel, func: str) -> None:  # noqa: F811
    subject = "w" * 200
    panel.end(subject)
    elid = register(panel, subject)
    post(panel, "problems.solve", elid=elid)
    page.set_viewport_size({"width": PHONE, "height": 760})
    sign_in(page, panel, f"func={func}" + (f"&plid={elid}" if func == "problems.log" else ""))
    is_live(page)
    expect(page.get_by_text("solved").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE


def test_the_list_of_problems_changes_while_it_is_open(page: Page, panel: SolvingPanel) -> None:  # noqa: F811
    sign_in(page, panel, "func=problems&state=unsolved&type=vmwatch_master_stopped")
    is_live(page)
    expect(page.locator("#empty")).to_be_visible()
    elid = register(panel, HOSTILE, "vmwatch_master_stopped")
    row = page.locator(f'tr[data-key="{elid}"]')
    expect(row.locator(".text")).to_have_text(f"{HOSTILE} is ill")
    panel.end(HOSTILE)
    post(panel, "problems.solve", elid=elid)
    expect(row).to_have_count(0)
    assert page.title() == "Problems · vmwatch"
    panel.kill()
    expect(page.locator("#live.off")).to_be_visible()
    panel.start()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_nothing_of_the_list_is_cut_off_on_a_desktop(page: Page, panel: SolvingPanel) -> None:  # noqa: F811
    elid = register(panel, "kvm-05")
    sign_in(page, panel, "func=problems&state=unsolved")
    page.set_viewport_size({"width": 1280, "height": 800})
    row = page.locator(f'tr[data-key="{elid}"]')
    expect(row).to_contain_text("next ")
    found = page.locator("#found")
    assert found.evaluate("card => card.scrollWidth <= card.clientWidth")
    button = row.get_by_role("button", name="Solve now")
    assert button.evaluate("button => button.scrollHeight <= button.clientHeight")
