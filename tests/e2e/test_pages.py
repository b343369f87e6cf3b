"""The pages in a real browser: what a person sees, live, also with hostile names, and on a phone."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.integration.test_panel_api import set_user
from tests.testbed.heart import Heart
from tests.testbed.stack import ADMIN, SERVICE, Panel
from tests.testbed.waiting import wait_until
from tests.unit.panel.reports import NODE, Message, entry, event, inventory, report, stats, uuid_of
from vmwatch.panel.identity import COOKIE
from vmwatch.panel.watch import NO_LIFE, NOT_WRITTEN
from vmwatch.shared.report import decode_answer

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>'\"&"
LIMIT_MS = 30_000
CONNECTIONS = 6
"""That a browser makes to one origin."""
PHONE = 375

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists() and not os.environ.get("CI"), reason="chromium is not installed; CI must have it"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def panel(short_path: Path) -> Iterator[Panel]:
    with Panel(short_path) as panel:
        yield panel


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of its own session, which fails the test for an error in a script or against the content policy."""
    context = browser.new_context()
    context.set_default_timeout(LIMIT_MS)
    expect.set_options(timeout=LIMIT_MS)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    yield page
    context.close()
    assert errors == []


def settle(panel: Panel, *entries: Message) -> str:
    """Have them registered; returns the token of the listing that the panel wants of the first node."""
    answer = requests.post(
        panel.url,
        params={"func": "vmwatch.report"},
        data=report(*entries),
        headers={"Content-Type": "application/json"},
        auth=SERVICE,
        timeout=60,
    )
    verdicts = decode_answer(answer.content)
    assert all(verdict.applied for verdict in verdicts if any(entry["messages"] for entry in entries))
    return verdicts[0].want_inventory


def sign_in(page: Page, panel: Panel, query: str = "func=vm") -> None:
    page.goto(f"{panel.url}?{query}")
    page.get_by_label("Name").fill(ADMIN[0])
    page.get_by_label("Password").fill(ADMIN[1])
    page.get_by_role("button", name="Sign in").click()


def is_live(page: Page) -> None:
    expect(page.locator("#live.on")).to_be_visible()


def look(page: Page, *, away: bool) -> None:
    """As if somebody turned to another tab or came back: without a screen each tab counts as seen."""
    page.evaluate(
        """away => {
            Object.defineProperty(document, "hidden", { value: away, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        away,
    )


def names(page: Page) -> list[str]:
    return page.locator("#rows tbody td.name").all_inner_texts()


def test_a_visitor_signs_in_comes_to_the_page_he_asked_for_and_signs_out(page: Page, panel: Panel) -> None:
    page.goto(f"{panel.url}?func=eventlog&name=a%26b")
    page.get_by_label("Name").fill(ADMIN[0])
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("name or the password is wrong")
    page.get_by_label("Password").fill(ADMIN[1])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Events")).to_be_visible()
    expect(page.get_by_label("VM name")).to_have_value("a&b")
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(f"{panel.url}?func=vm")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_login_link_from_elsewhere_leads_to_no_other_site(page: Page, panel: Panel) -> None:
    sign_in(page, panel, "func=logon&next=//evil.example/")
    page.wait_for_url(f"http://127.0.0.1:{panel.port}/**")


def test_a_service_account_has_no_pages(page: Page, panel: Panel) -> None:
    page.goto(f"{panel.url}?func=vm")
    page.get_by_label("Name").fill(SERVICE[0])
    page.get_by_label("Password").fill(SERVICE[1])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("has no pages")


def test_a_hostile_name_is_shown_as_it_is_and_runs_nothing(page: Page, panel: Panel) -> None:
    settle(panel, entry(event(1, HOSTILE)))
    sign_in(page, panel)
    is_live(page)
    assert names(page) == [HOSTILE]
    settle(panel, entry(event(2, HOSTILE + "2"), event(3, HOSTILE, "stopped", "destroyed")))
    expect(page.locator("#rows tbody tr")).to_have_count(2)
    assert sorted(names(page)) == [HOSTILE, HOSTILE + "2"]
    page.goto(f"{panel.url}?func=eventlog")
    is_live(page)
    settle(panel, entry(event(4, HOSTILE, "started", "booted")))
    expect(page.locator("#rows tbody tr")).to_have_count(4)
    assert names(page)[0] == HOSTILE
    assert page.title() == "Events · vmwatch"
    assert page.locator("main img, main script").count() == 0


def test_states_change_while_the_page_is_open(page: Page, panel: Panel) -> None:
    settle(panel, entry(inventory(1, 0, web="running", db="running")))
    sign_in(page, panel)
    is_live(page)
    row = page.locator("#rows tbody tr", has_text="web")
    expect(row.locator(".state")).to_have_text("running")
    settle(panel, entry(event(2, "web", "suspended", "paused"), event(3, "mail")))
    expect(row.locator(".state")).to_have_text("paused")
    assert names(page) == ["db", "mail", "web"]
    expect(page.locator("[data-count=running]")).to_have_text("2")
    expect(page.locator("[data-count=paused]")).to_have_text("1")
    settle(panel, entry(inventory(4, 3, web="shutoff", db="running")))
    expect(row.locator(".state")).to_have_text("shutoff")
    expect(page.locator("#rows tbody tr")).to_have_count(2)
    expect(page.locator("#shown")).to_have_text("2")


def test_the_number_of_vms_on_several_pages_is_live(page: Page, panel: Panel) -> None:
    settle(panel, entry(inventory(1, 0, **{f"vm-{number}": "running" for number in range(250)})))
    sign_in(page, panel)
    is_live(page)
    expect(page.locator("p.sub")).to_contain_text("250 on 2 pages")
    settle(panel, entry(event(2, "one-more")))
    expect(page.locator("p.sub")).to_contain_text("251 on 2 pages")


def test_search_and_state_filter_hold_for_what_comes_live(page: Page, panel: Panel) -> None:
    settle(panel, entry(inventory(1, 0, **{"web-1": "running", "web-2": "shutoff", "db-1": "running"})))
    sign_in(page, panel)
    page.get_by_label("Name or UUID").fill("WEB")
    page.locator("[name=vmstatus]").select_option("running")
    page.get_by_role("button", name="Search").click()
    is_live(page)
    assert names(page) == ["web-1"]
    settle(panel, entry(event(2, "web-2"), event(3, "db-2"), event(4, "web-1", "stopped", "destroyed")))
    expect(page.locator("#rows tbody tr td.name")).to_have_text(["web-2"])
    page.get_by_role("link", name="clear the filter").click()
    expect(page.locator("#rows tbody tr")).to_have_count(4)


def test_an_installation_is_shown_while_it_goes_on_and_leads_to_how_it_came_out(page: Page, panel: Panel) -> None:
    settle(panel, entry(inventory(1, 0, web="shutoff")))
    token = settle(panel, entry(live=True))
    settle(panel, entry(inventory(2, 1, web="shutoff") | {"token": token}))
    nowhere = "qemu+unix:///system?socket=/none/libvirt-sock"
    calls: list[dict[str, str]] = [
        {"func": "vmhostnode.edit", "elid": NODE, "allow_install": "yes", "libvirt_uri": nowhere},
        {"func": "vm.install", "elid": uuid_of("web"), "image": "/a.iso"},
    ]
    for fields in calls:
        answer = requests.post(panel.url, data={"out": "json", "sok": "ok", **fields}, auth=ADMIN, timeout=60)
        assert "ok" in answer.json()["doc"], answer.text
    sign_in(page, panel)
    is_live(page)
    install = page.locator("#rows tbody tr .install")
    expect(install).to_have_text("preparing the definition")
    expect(page.locator("#rows .state")).to_have_text("shutoff")
    panel.change("vmhostnode.edit", elid=NODE, allow_install="no")
    expect(install).to_have_text("installation failed")
    install.click()
    expect(page.get_by_text("installing was forbidden on the node meanwhile").first).to_be_visible()


@pytest.fixture
def installable(panel: Panel) -> Iterator[Panel]:
    """With a VM, `web`, on a node where an installation may begin; its libvirt answers nobody."""
    with Heart(panel, web="shutoff", db="running"):
        wait_until(lambda: len(panel.vms()) == 2, "the VMs")
        nowhere = "qemu+unix:///system?socket=/none/libvirt-sock"
        panel.change("vmhostnode.edit", elid=NODE, allow_install="yes", libvirt_uri=nowhere)
        yield panel


def test_an_installation_begins_and_is_cancelled_on_its_pages(page: Page, installable: Panel) -> None:
    sign_in(page, installable, f"func=eventlog&uuid={uuid_of('web')}")
    expect(page.locator("#subject .state")).to_have_text("shutoff")
    page.get_by_role("link", name="Install…").click()
    expect(page.get_by_role("heading", name="Install an operating system")).to_be_visible()
    page.get_by_label("Image").fill("setup.iso")
    page.get_by_label("Reboots expected").fill("3")
    page.get_by_role("button", name="Install").click()
    # What is wrong stands at its field, and nothing that was typed is lost.
    image = page.get_by_label("Image")
    expect(image).to_have_attribute("aria-invalid", "true")
    expect(image).to_have_value("setup.iso")
    expect(page.locator("#wrong-image")).to_contain_text("absolute path, on the VM's node, of a .iso file is allowed")
    expect(page.get_by_label("Reboots expected")).to_have_value("3")
    image.fill("/iso/setup.iso")
    page.get_by_role("button", name="Install").click()
    expect(page.get_by_role("heading", name="Installations")).to_be_visible()
    row = page.locator("tbody tr")
    expect(row).to_have_count(1)
    expect(row.locator(".state")).to_have_text("under way")
    expect(row).to_contain_text("/iso/setup.iso")
    is_live(page)
    # Its first attempt has failed meanwhile, or fails now: the page says so by itself.
    expect(row.locator(".detail")).to_contain_text("cannot be reached")
    page.get_by_role("button", name="Cancel").click()
    expect(row.locator(".state")).to_have_text("cancelled")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


def test_the_list_of_installations_changes_while_it_is_open(page: Page, installable: Panel) -> None:
    sign_in(page, installable, f"func=vm.install.list&elid={uuid_of('web')}")
    is_live(page)
    expect(page.get_by_text("Nothing was installed yet.")).to_be_visible()
    installable.change("vm.install", elid=uuid_of("web"), image="/iso/setup.iso")
    row = page.locator("tbody tr")
    expect(row.locator(".state")).to_have_text("under way")
    installable.change("vm.install.cancel", elid=uuid_of("web"))
    expect(row.locator(".state")).to_have_text("cancelled")
    expect(row).to_have_count(1)
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


def test_an_installation_that_is_refused_says_why_before_and_after(page: Page, installable: Panel) -> None:
    sign_in(page, installable, f"func=vm.install&elid={uuid_of('db')}")
    expect(page.locator(".notice")).to_contain_text("db is running; shut it off first")
    page.get_by_role("button", name="Install").click()
    expect(page.get_by_role("alert")).to_contain_text("db is running on kvm-01; shut it off first")
    installable.change("vmhostnode.edit", elid=NODE, allow_install="no")
    page.goto(f"{installable.url}?func=vm.install&elid={uuid_of('web')}")
    expect(page.locator(".notice")).to_contain_text("Installing is not allowed on kvm-01")
    page.goto(f"{installable.url}?func=vm.install&elid=nothing")
    expect(page.get_by_role("alert")).to_contain_text("there is no vm 'nothing'")


def test_a_viewer_has_no_way_to_install(page: Page, panel: Panel) -> None:
    settle(panel, entry(event(1, "web", "stopped", "")))
    set_user(panel, "viewer", "a viewer's password", "viewer")
    page.goto(f"{panel.url}?func=eventlog&uuid={uuid_of('web')}")
    page.get_by_label("Name").fill("viewer")
    page.get_by_label("Password").fill("a viewer's password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#subject h2")).to_have_text("web")
    expect(page.get_by_role("link", name="Install…")).to_have_count(0)
    page.goto(f"{panel.url}?func=vm.install&elid={uuid_of('web')}")
    expect(page.get_by_role("alert")).to_contain_text("is for administrators and operators")
    page.goto(f"{panel.url}?func=vm.install.list")
    expect(page.get_by_text("Nothing was installed yet.")).to_be_visible()


def test_the_vm_above_its_events_is_live(page: Page, panel: Panel) -> None:
    settle(panel, entry(event(1, "web")))
    sign_in(page, panel, f"func=eventlog&uuid={uuid_of('web')}")
    is_live(page)
    expect(page.locator("#subject .state")).to_have_text("running")
    settle(panel, entry(event(2, "web", "suspended", "paused"), event(3, "db", "stopped", "")))
    expect(page.locator("#subject .state")).to_have_text("paused")


def test_the_page_of_a_vm_says_live_what_is_installed_there_and_which_problems_it_has(
    page: Page, installable: Panel
) -> None:
    sign_in(page, installable, f"func=eventlog&uuid={uuid_of('web')}")
    is_live(page)
    found = page.locator("#subject .problems a")
    expect(found).to_have_count(0)
    installable.change("problems.register", type="vm_install_failed", object=uuid_of("db"), description="no disk")
    installable.change("problems.register", type="vm_install_failed", object=uuid_of("web"), description="no image")
    expect(found).to_have_text(["vm_install_failed"])
    installable.change("vm.install", elid=uuid_of("web"), image="/iso/setup.iso")
    expect(page.locator("#subject .install")).to_have_text("preparing the definition")
    found.first.click()
    expect(page.locator("main")).to_contain_text("no image")


def test_a_problem_leads_to_what_it_is_about(page: Page, panel: Panel) -> None:
    settle(panel, entry(event(1, "web")))
    panel.change("problems.register", type="vm_duplicate", object=uuid_of("web"), description="on two nodes")
    panel.change("problems.register", type="vmwatch_node_stopped", object=NODE, description="stopped")
    sign_in(page, panel, "func=problems")
    page.get_by_role("link", name="the VM").click()
    expect(page.locator("#subject h2")).to_have_text("web")
    page.goto(f"{panel.url}?func=problems")
    page.get_by_role("link", name=NODE).click()
    expect(page.locator("#rows tbody tr")).to_have_count(1)


def test_events_come_on_top_and_only_of_the_vm_that_is_looked_at(page: Page, panel: Panel) -> None:
    settle(panel, entry(event(1, "web"), event(2, "db")))
    sign_in(page, panel, f"func=eventlog&uuid={uuid_of('web')}")
    is_live(page)
    settle(panel, entry(event(3, "db", "stopped", ""), event(4, "web", "stopped", "destroyed")))
    expect(page.locator("#rows tbody td.event")).to_have_text(["stopped destroyed", "started booted"])


def test_nodes_show_their_last_sign_of_life_and_a_new_one_appears(page: Page, panel: Panel) -> None:
    with Heart(panel):
        sign_in(page, panel, "func=vmhostnode")
        is_live(page)
        row = page.locator("#rows tbody tr", has_text="kvm-01")
        expect(row.locator(".state")).to_have_text("active")
        expect(row).to_contain_text("vmwatch-node/1.0.0")
        expect(row.locator(".seen")).to_contain_text("s ago")
        settle(panel, entry(event(1, "db"), node="kvm-02"))
        expect(page.locator("#rows tbody tr", has_text="kvm-02")).to_be_visible()


def test_nodes_are_judged_by_the_panels_clock_and_their_vms_counted_live(page: Page, panel: Panel) -> None:
    page.add_init_script("const real = Date.now; Date.now = () => real() + 7200000")  # a browser two hours ahead

    def say(*messages: Message) -> None:
        settle(panel, entry(*messages, live=True) | {"interval": 3600})

    with Heart(panel, silent=True):
        say(inventory(1, 0, web="running", db="running"))
        sign_in(page, panel, "func=vmhostnode")
        is_live(page)
        row = page.locator("#rows tbody tr", has_text="kvm-01")
        expect(row.locator(".seen")).to_contain_text("s ago")
        expect(row.locator(".state")).to_have_text("active")
        expect(row.locator(".vms")).to_have_text("2")
        say(event(2, "mail"))
        expect(row.locator(".vms")).to_have_text("3")
        say(event(3, "mail", "stopped", ""), event(4, "db", "stopped", ""))
        say(inventory(5, 4, web="running"))
        expect(row.locator(".vms")).to_have_text("1")
        expect(row.locator(".state")).to_have_text("active")


def test_a_silent_node_and_its_vms_are_shown_as_such_and_a_lost_connection_makes_none_silent(
    page: Page, panel: Panel
) -> None:
    with Heart(panel, interval_s=1.0, web="running") as heart:
        sign_in(page, panel, "func=vmhostnode")
        is_live(page)
        row = page.locator("#rows tbody tr", has_text="kvm-01")
        expect(row.locator(".state")).to_have_text("active")
        expect(row.locator(".seen")).to_contain_text("s ago")
        heart.silent = True
        expect(row.locator(".state")).to_have_text("silent")
        expect(row.locator(".doubt")).to_have_text(NO_LIFE)
        page.goto(f"{panel.url}?func=vm")
        is_live(page)
        vm = page.locator("#rows tbody tr", has_text="web")
        expect(vm.locator(".state")).to_have_text("unknown")
        heart.silent = False
        expect(vm.locator(".state")).to_have_text("running")
        page.goto(f"{panel.url}?func=vmhostnode")
        is_live(page)
        expect(row.locator(".state")).to_have_text("active")
    panel.kill()
    expect(page.locator("#live.off")).to_be_visible()
    expect(row.locator(".state")).to_have_text("active")


def test_a_page_says_that_the_database_cannot_be_written_and_shows_what_is_known_when_it_can(
    page: Page, panel: Panel
) -> None:
    with Heart(panel, web="running"), closing(sqlite3.connect(panel.prefix / "var" / "vmwatch-panel.db")) as other:
        sign_in(page, panel)
        is_live(page)
        state, note = page.locator("#rows tbody tr .state"), page.locator("#doubt")
        expect(state).to_have_text("running")
        expect(note).to_be_hidden()
        other.execute("BEGIN IMMEDIATE")
        expect(state).to_have_text("unknown", timeout=2 * LIMIT_MS)
        expect(note).to_have_text(f"All VMs are unknown: {NOT_WRITTEN}.")
        page.reload()
        expect(note).to_be_visible()
        other.rollback()
        expect(state).to_have_text("running")
        expect(note).to_be_hidden()


def test_times_are_typed_as_they_are_shown(browser: Browser, panel: Panel) -> None:
    context = browser.new_context(timezone_id="Asia/Tokyo")
    page = context.new_page()
    page.set_default_timeout(LIMIT_MS)
    settle(panel, entry(event(1, "web")))
    sign_in(page, panel, "func=eventlog")
    is_live(page)
    shown = page.locator("#rows tbody td.time time").inner_text()
    minute = shown[:16].replace(" ", "T")
    page.get_by_label("Since").fill(minute)
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**since=**")
    expect(page.locator("#rows tbody td.time time")).to_have_text(shown)
    expect(page.get_by_label("Since")).to_have_value(minute)
    assert "name=" not in page.url
    page.get_by_label("Since").fill("")
    page.get_by_label("Until").fill(minute.replace(minute[:4], str(int(minute[:4]) - 1), 1))
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No event fits the filter.")).to_be_visible()
    context.close()


def test_the_page_of_an_error_leads_back(page: Page, panel: Panel) -> None:
    sign_in(page, panel)
    is_live(page)
    page.goto(f"{panel.url}?func=vm&vmstatus=nothing")
    expect(page.get_by_role("alert")).to_contain_text("vmstatus: one of")
    page.get_by_role("link", name="Events").click()
    expect(page.get_by_role("heading", name="Events")).to_be_visible()


def test_a_page_comes_back_to_life_after_the_panel_was_killed(page: Page, panel: Panel) -> None:
    settle(panel, entry(event(1, "web")))
    sign_in(page, panel)
    is_live(page)
    cookies = page.context.cookies()
    assert [(cookie["name"], cookie["httpOnly"], cookie["sameSite"]) for cookie in cookies] == [(COOKIE, True, "Lax")]
    panel.kill()
    expect(page.locator("#live.off")).to_be_visible()
    panel.start()
    # sessions live in the panel's memory: the page finds out by itself, and comes back after the sign-in
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("Name").fill(ADMIN[0])
    page.get_by_label("Password").fill(ADMIN[1])
    page.get_by_role("button", name="Sign in").click()
    is_live(page)
    assert names(page) == ["web"]


def test_more_pages_than_a_browser_has_connections_are_open_and_each_shows_what_it_missed_when_it_is_seen(
    page: Page, panel: Panel
) -> None:
    settle(panel, entry(event(1, "web")))
    sign_in(page, panel)
    is_live(page)
    pages = [page]
    for _ in range(CONNECTIONS):
        look(pages[-1], away=True)
        pages.append(page.context.new_page())
        pages[-1].goto(f"{panel.url}?func=vm")
        is_live(pages[-1])
    settle(panel, entry(event(2, "db")))
    for one in pages[:-1]:
        assert names(one) == ["web"]
        look(one, away=False)
        expect(one.locator("#rows tbody tr")).to_have_count(2)
        look(one, away=True)


LIVE = ("vm", "eventlog", "vmhostnode")
PHONE_PAGES = [*LIVE, "problems", "policy", "logon", "eventlog&uuid=", "vm.install&elid=", "vm.install.list&elid="]


@pytest.mark.parametrize("func", PHONE_PAGES)
def test_no_page_is_wider_than_a_phone(page: Page, panel: Panel, func: str) -> None:
    name = "w" * 300
    func += uuid_of(name) if func.endswith("=") else ""
    panel.change("policy.edit", check_vm_activity="on", activity_exempt="e" * 300)
    settle(panel, entry(event(1, name), event(2, HOSTILE), idle(3, 2000.0, name=name), node="n" * 64))
    settle(panel, entry(idle(4, 2600.0, name=name), node="n" * 64))
    panel.change("problems.register", type="vm_install_failed", object=uuid_of(name), description="d" * 300)
    page.set_viewport_size({"width": PHONE, "height": 760})
    if func == "logon":
        page.goto(f"{panel.url}?func=logon")
    else:
        sign_in(page, panel, f"func={func}")
        expect(page.locator("main h1")).to_be_visible()
        if func.partition("&")[0] in (*LIVE, "vm.install.list"):  # nothing on the others changes by itself
            is_live(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE


def test_a_function_without_a_page_of_its_own_is_shown_as_a_table(page: Page, panel: Panel) -> None:
    settle(panel, entry(inventory(1, 0, web="running")))
    sign_in(page, panel)
    page.goto(f"{panel.url}?func=vmstat&elid={uuid_of('web')}")
    expect(page.get_by_text("Nothing here.")).to_be_visible()
    page.goto(f"{panel.url}?func=vmstat&elid=nothing")
    expect(page.get_by_role("alert")).to_contain_text("there is no vm 'nothing'")


def idle(seq: int, taken: float, *, sent: int = 5, written: int = 5, name: str = "web") -> Message:
    return stats(seq, name, taken=taken, tx_packets=sent, write_requests=written)


def test_a_warning_appears_and_goes_away_on_an_open_page(page: Page, panel: Panel) -> None:
    settle(panel, entry(inventory(1, 0, web="running", mail="running"), idle(2, 2000.0)))
    sign_in(page, panel)
    is_live(page)
    expect(page.locator("#warned")).to_be_hidden()
    panel.change("policy.edit", check_vm_activity="on")
    settle(panel, entry(idle(3, 2600.0, written=6)))
    row = page.locator(f'tr[data-key="{uuid_of("web")}"]')
    expect(row.locator(".warning")).to_have_text(re.compile("no packets sent since 1970-01-01 "))
    expect(page.locator("#warned")).to_have_text("1")
    settle(panel, entry(idle(4, 3200.0, written=6)))
    expect(row.locator(".warning")).to_have_count(2)
    page.locator(".tile.warned").click()
    is_live(page)
    assert names(page) == ["web"]
    settle(panel, entry(idle(5, 3800.0, sent=6, written=7)))
    expect(page.locator("#rows tbody tr")).to_have_count(0)
    expect(page.locator("#shown")).to_have_text("0")
    settle(panel, entry(idle(6, 4400.0, sent=6, written=8)))
    expect(page.locator("#rows tbody tr")).to_have_count(1)


def test_the_switch_on_the_page_of_policies_changes_them_and_wrong_values_are_named(page: Page, panel: Panel) -> None:
    sign_in(page, panel, "func=policy")
    switch = page.get_by_role("switch", name="Check VM activity")
    expect(switch).not_to_be_checked()
    switch.check()
    page.get_by_label("Never warn of").fill("backup, <b>")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    expect(switch).to_be_checked()
    expect(page.get_by_label("Never warn of")).to_have_value("backup, <b>")
    switch.uncheck()
    page.get_by_role("button", name="Save").click()
    expect(switch).not_to_be_checked()
    page.locator("form.policies").evaluate("form => form.noValidate = true")
    page.get_by_label("Window, seconds").fill("-1")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("activity_window: a whole number from 0 to 604800 is allowed")


def test_a_viewer_sees_the_policies_without_a_way_to_change_them(page: Page, panel: Panel) -> None:
    set_user(panel, "viewer", "a viewer's password", "viewer")
    page.goto(f"{panel.url}?func=policy")
    page.get_by_label("Name").fill("viewer")
    page.get_by_label("Password").fill("a viewer's password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("switch", name="Check VM activity")).to_be_disabled()
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
