"""The panel as a process: its API over HTTP, on its real database."""

import csv
import io
import json
import signal
import socket
import sqlite3
import subprocess
import time
import uuid
import xml.etree.ElementTree as ElementTree
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.testbed.heart import Heart
from tests.testbed.service import command
from tests.testbed.stack import ADMIN, SERVICE, Panel, plain
from tests.testbed.waiting import wait_until
from tests.unit.panel.reports import EPOCH, NODE, Message, entry, event, inventory, report, stats, uuid_of
from vmwatch.panel.identity import COOKIE
from vmwatch.panel.live import MOST_EVENTS
from vmwatch.shared.exits import Exit
from vmwatch.shared.messages import MAX_BATCH_BYTES
from vmwatch.shared.report import Verdict, decode_answer

VIEWER = ("viewer", "a viewer's password")
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def shared_panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Panel]:
    """One panel for all tests that only add to it."""
    panel = Panel(tmp_path_factory.mktemp("p"))
    set_user(panel, *VIEWER, "viewer")
    with panel:
        yield panel


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[Panel]:
    """A panel of the test's own, to kill or to count."""
    with Panel(tmp_path) as panel:
        yield panel


def set_user(panel: Panel, name: str, password: str, role: str) -> None:
    run(panel, "user", "set", name, "--role", role, typed=password + "\n")


def run(panel: Panel, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command("vmwatch-panel"), "--prefix", str(panel.prefix), *arguments],
        input=typed,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def post_report(panel: Panel, body: bytes, auth: tuple[str, str] | None = SERVICE) -> requests.Response:
    headers = {"Content-Type": "application/json"}
    params = {"func": "vmwatch.report", "out": "json"}
    return requests.post(panel.url, params=params, data=body, headers=headers, auth=auth, timeout=TIMEOUT_S)


def settle(panel: Panel, *entries: Message) -> list[Verdict]:
    return decode_answer(post_report(panel, report(*entries)).content)


def post(panel: Panel, func: str, auth: tuple[str, str] | None = ADMIN, **fields: str) -> dict[str, Any]:
    answer = requests.post(panel.url, data={"func": func, "out": "json", **fields}, auth=auth, timeout=TIMEOUT_S)
    assert answer.status_code == 200, answer.text
    doc: dict[str, Any] = answer.json()["doc"]
    return doc


def error_of(doc: dict[str, Any]) -> tuple[str, str]:
    return doc["error"]["$type"], doc["error"]["$object"]


def session_of(panel: Panel, account: tuple[str, str]) -> str:
    doc = post(panel, "auth", auth=None, username=account[0], password=account[1])
    session: str = doc["auth"]["$id"]
    assert doc["auth"]["$"] == session
    return session


def node_name() -> str:
    """A node that no other test of the shared panel uses."""
    return f"kvm-{uuid.uuid4().hex[:8]}"


# Identity


def test_a_call_without_proof_is_an_auth_error_with_status_200(shared_panel: Panel) -> None:
    answer = requests.get(shared_panel.url, params={"func": "vm", "out": "json"}, timeout=TIMEOUT_S)
    assert answer.status_code == 200
    assert error_of(answer.json()["doc"]) == ("auth", "auth")
    assert error_of(post_report(shared_panel, report(), auth=None).json()["doc"])[0] == "auth"


def test_a_wrong_password_is_401_by_http_basic_and_an_auth_error_otherwise(shared_panel: Panel) -> None:
    answer = post_report(shared_panel, report(), auth=(SERVICE[0], "wrong"))
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert error_of(answer.json()["doc"])[0] == "auth"
    assert error_of(post(shared_panel, "vm", auth=None, authinfo="admin:wrong"))[0] == "auth"
    assert error_of(post(shared_panel, "auth", auth=None, username="admin", password="wrong"))[0] == "auth"
    data = {"func": "vm", "out": "json", "auth": "0" * 32}
    assert error_of(requests.post(shared_panel.url, data=data, timeout=TIMEOUT_S).json()["doc"])[0] == "auth"


def test_authinfo_a_session_in_the_body_and_a_cookie_each_let_in(shared_panel: Panel) -> None:
    assert "elem" in post(shared_panel, "vm", auth=None, authinfo=":".join(ADMIN))
    session = session_of(shared_panel, ADMIN)
    data = {"func": "vm", "out": "json", "auth": session}
    assert "elem" in requests.post(shared_panel.url, data=data, timeout=TIMEOUT_S).json()["doc"]
    cookies = {COOKIE: session}
    params = {"func": "vm", "out": "json"}
    assert "elem" in requests.get(shared_panel.url, params=params, cookies=cookies, timeout=TIMEOUT_S).json()["doc"]


def test_the_sessions_cookie_is_kept_from_scripts_and_other_sites(shared_panel: Panel) -> None:
    data = {"func": "auth", "out": "json", "username": ADMIN[0], "password": ADMIN[1]}
    cookie = requests.post(shared_panel.url, data=data, timeout=TIMEOUT_S).headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie


def test_a_session_ends_with_logout(shared_panel: Panel) -> None:
    data = {"func": "logout", "out": "json", "auth": session_of(shared_panel, ADMIN)}
    assert "ok" in requests.post(shared_panel.url, data=data, timeout=TIMEOUT_S).json()["doc"]
    assert error_of(requests.post(shared_panel.url, data=data, timeout=TIMEOUT_S).json()["doc"])[0] == "auth"


@pytest.mark.parametrize("name", ["authinfo", "auth", "password"])
def test_a_secret_in_the_address_is_refused_without_the_option(shared_panel: Panel, name: str) -> None:
    params = {"func": "vm", "out": "json", name: ":".join(ADMIN)}
    doc = requests.get(shared_panel.url, params=params, timeout=TIMEOUT_S).json()["doc"]
    assert error_of(doc) == ("value", name)


def test_the_option_allows_authinfo_in_the_address_from_the_next_sighup_on(panel: Panel) -> None:
    conf = panel.prefix / "etc" / "vmmgr.conf"
    conf.write_text(conf.read_text() + "Option AuthinfoInUrl\n")
    panel.signal(signal.SIGHUP)
    params = {"func": "vm", "out": "json", "authinfo": ":".join(ADMIN)}
    wait_until(
        lambda: "elem" in requests.get(panel.url, params=params, timeout=TIMEOUT_S).json()["doc"],
        "authinfo in an address to be accepted",
    )
    assert "changed: AuthinfoInUrl" in panel.log


@pytest.mark.parametrize(
    ("account", "func", "allowed"),
    [
        (SERVICE, "vm", False),
        (SERVICE, "eventlog", False),
        (SERVICE, "vmhostnode.delete", False),
        (SERVICE, "vm.event", True),
        (VIEWER, "vm", True),
        (VIEWER, "vmhostnode", True),
        (VIEWER, "vmhostnode.edit", False),
        (VIEWER, "vm.event", False),
        (VIEWER, "vmwatch.report", False),
        (ADMIN, "vmhostnode.delete", True),
        (ADMIN, "vmwatch.report", True),
    ],
)
def test_a_role_may_call_its_own_functions_only(
    shared_panel: Panel, account: tuple[str, str], func: str, allowed: bool
) -> None:
    doc = post(shared_panel, func, auth=account)
    assert (doc.get("error", {}).get("$type") == "access") is not allowed


def test_a_role_that_was_changed_counts_at_once(panel: Panel) -> None:
    set_user(panel, *VIEWER, "operator")
    assert error_of(post(panel, "vmhostnode.edit", auth=VIEWER, elid="none")) == ("missed", "vmhostnode")
    set_user(panel, *VIEWER, "viewer")
    wait_until(
        lambda: error_of(post(panel, "vmhostnode.edit", auth=VIEWER, elid="none"))[0] == "access", "the role to count"
    )


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example"}],
)
def test_another_site_cannot_use_a_browsers_session_or_password(shared_panel: Panel, headers: dict[str, str]) -> None:
    data = {"func": "vmhostnode.edit", "out": "json", "name": node_name(), "sok": "ok"}
    cookies = {COOKIE: session_of(shared_panel, ADMIN)}
    by_cookie = requests.post(shared_panel.url, data=data, cookies=cookies, headers=headers, timeout=TIMEOUT_S)
    by_basic = requests.post(shared_panel.url, data=data, auth=ADMIN, headers=headers, timeout=TIMEOUT_S)
    for answer in (by_cookie, by_basic):
        assert error_of(answer.json()["doc"]) == ("access", "vmhostnode.edit")
    assert data["name"] not in {row["name"] for row in shared_panel.rows("vmhostnode")}


def test_a_get_by_cookie_changes_nothing_and_a_post_of_our_own_page_does(shared_panel: Panel) -> None:
    data = {"func": "vmhostnode.edit", "out": "json", "name": node_name(), "sok": "ok"}
    cookies = {COOKIE: session_of(shared_panel, ADMIN)}
    answer = requests.get(shared_panel.url, params=data, cookies=cookies, timeout=TIMEOUT_S)
    assert error_of(answer.json()["doc"]) == ("access", "vmhostnode.edit")
    headers = {"Sec-Fetch-Site": "same-origin"}
    answer = requests.post(shared_panel.url, data=data, cookies=cookies, headers=headers, timeout=TIMEOUT_S)
    assert "ok" in answer.json()["doc"]


# vmwatch.report


def test_a_report_is_registered_once_however_often_it_comes(shared_panel: Panel) -> None:
    node = node_name()
    messages = [event(1, node), event(2, node, "suspended", "paused")]
    first, second = settle(shared_panel, entry(*messages, node=node)), settle(shared_panel, entry(*messages, node=node))
    assert (first[0].applied, first[0].known) == (2, 0)
    assert (second[0].applied, second[0].known) == (0, 2)
    rows = shared_panel.events(node=node)
    assert [(row["seq"], row["event"], row["detail"], row["state"]) for row in rows] == [
        ("1", "started", "booted", "running"),
        ("2", "suspended", "paused", "paused"),
    ]
    assert rows[0]["uuid"] == uuid_of(node)
    assert rows[0]["epoch"] == str(EPOCH)
    assert shared_panel.vms()[uuid_of(node)]["vmstatus"] == "paused"


def test_what_was_answered_is_known_after_kill_9_and_a_restart(panel: Panel) -> None:
    messages = [event(seq, f"vm-{seq % 7}") for seq in range(1, 201)]
    assert settle(panel, entry(*messages))[0].applied == 200
    panel.restart_after_kill()
    verdict = settle(panel, entry(*messages, event(201)))[0]
    assert (verdict.applied, verdict.known) == (1, 200)
    assert [int(row["seq"]) for row in panel.events()] == list(range(1, 202))
    assert len(panel.vms()) == 8


def test_a_kill_9_at_any_moment_loses_nothing_that_was_answered_and_doubles_nothing(panel: Panel) -> None:
    settled, seq = 0, 0
    for _ in range(4):
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            settle(panel, entry(*(event(seq + step) for step in range(1, 21)), base=seq + 1))
            seq += 20
            settled = seq
        panel.restart_after_kill()
        settle(panel, entry(*(event(step) for step in range(max(1, seq - 19), seq + 1)), base=1))
    assert [int(row["seq"]) for row in panel.events()] == list(range(1, settled + 1))


def test_many_reports_at_once_each_get_their_own_answer(shared_panel: Panel) -> None:
    nodes = [node_name() for _ in range(24)]

    def one(node: str) -> Verdict:
        return settle(shared_panel, entry(*(event(seq, node) for seq in range(1, 11)), node=node))[0]

    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(one, nodes))
    assert [(verdict.node, verdict.applied) for verdict in verdicts] == [(node, 10) for node in nodes]


def test_a_message_that_is_not_understood_is_refused_by_seq_and_its_neighbours_are_applied(shared_panel: Panel) -> None:
    node = node_name()
    bad = event(2, node) | {"event": "Not A Word"}
    verdict = settle(shared_panel, entry(event(1, node), bad, event(3, node), node=node))[0]
    assert (verdict.applied, [refusal.seq for refusal in verdict.refused]) == (2, [2])
    assert verdict.want_inventory


def test_an_inventory_makes_the_picture_and_its_token_is_asked_for_after_a_restart(panel: Panel) -> None:
    settle(panel, entry(inventory(1, 0, web="running", db="shutoff")))
    assert {row["name"]: row["vmstatus"] for row in panel.rows("vm")} == {"web": "running", "db": "shutoff"}
    numbers = {row["name"]: row["id"] for row in panel.rows("vm")}
    panel.restart_after_kill()
    verdict = settle(panel, entry())[0]
    assert verdict.want_inventory
    echoed = inventory(2, 1, web="running") | {"token": verdict.want_inventory}
    assert not settle(panel, entry(echoed))[0].want_inventory
    assert {row["name"]: row["id"] for row in panel.rows("vm")} == {"web": numbers["web"]}


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        (b"{", "xml", "report"),
        (b"\xff\xfe", "xml", "report"),
        (b"[" * 5000, "xml", "report"),
        (b"[]", "xml", "report"),
        (b"{}", "value", "master"),
        (b'{"master": 1}', "value", "master"),
        (b'{"master": "m", "nodes": [{"node": "a b", "epoch": 1, "base": 1}]}', "value", "nodes[0].node"),
        (b'{"master": "m", "nodes": [{"node": "a", "base": 1}]}', "value", "epoch"),
        (b'{"master": "m", "nodes": [{"node": "a", "epoch": -1, "base": 1}]}', "value", "nodes[0].epoch"),
        (b'{"master": "m", "nodes": [{"node": "a", "epoch": 1, "base": 1, "messages": [{}]}]}', "value", "seq"),
    ],
)
def test_a_report_that_is_none_is_an_error_that_names_the_place(
    shared_panel: Panel, body: bytes, kind: str, field: str
) -> None:
    answer = post_report(shared_panel, body)
    assert answer.status_code == 200
    assert error_of(answer.json()["doc"]) == (kind, field)


def test_a_report_larger_than_allowed_is_413_whether_or_not_it_says_its_length(shared_panel: Panel) -> None:
    large = b" " * (MAX_BATCH_BYTES + 1)
    assert post_report(shared_panel, large).status_code == 413
    headers = {"Content-Type": "application/json"}
    params = {"func": "vmwatch.report"}
    chunks = (b" " * 65536 for _ in range(MAX_BATCH_BYTES // 65536 + 2))
    try:
        answer = requests.post(
            shared_panel.url, params=params, data=chunks, headers=headers, auth=SERVICE, timeout=TIMEOUT_S
        )
        assert answer.status_code == 413
    except requests.ConnectionError:
        pass  # the panel answered and closed while the rest was still on its way
    assert shared_panel.status["counters"]["http.413"] >= 2
    assert post_report(shared_panel, report()).status_code == 200


def test_a_report_that_is_no_json_post_is_refused_by_name(shared_panel: Panel) -> None:
    assert error_of(post(shared_panel, "vmwatch.report", auth=SERVICE)) == ("value", "Content-Type")


def test_a_connection_that_asks_nothing_is_ended(shared_panel: Panel) -> None:
    with socket.create_connection(("127.0.0.1", shared_panel.port), TIMEOUT_S) as silent:
        assert silent.recv(1) == b""


def test_a_database_that_is_locked_answers_503_and_registers_nothing_of_it(panel: Panel) -> None:
    other = sqlite3.connect(panel.prefix / "var" / "vmwatch-panel.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = post_report(panel, report(entry(event(1))))
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    other.execute("ROLLBACK")
    other.close()
    assert panel.events() == []
    assert settle(panel, entry(event(1)))[0].applied == 1


# vm.event


def test_an_event_with_a_place_is_registered_once(shared_panel: Panel) -> None:
    node = node_name()
    fields = {"hostnode": node, "name": "web", "uuid": uuid_of(node), "event": "started", "detail": "booted"}
    for _ in range(2):
        assert "ok" in post(shared_panel, "vm.event", auth=SERVICE, epoch="7", seq="3", **fields)
    rows = shared_panel.events(node=node)
    assert [(row["epoch"], row["seq"], row["state"]) for row in rows] == [("7", "3", "running")]
    assert shared_panel.vms()[uuid_of(node)]["vmstatus"] == "running"


def test_an_event_without_a_place_is_new_each_time_also_after_a_restart(panel: Panel) -> None:
    settle(panel, entry(inventory(1, 0, web="running")))
    fields = {"hostnode": NODE, "name": "web", "event": "reboot"}
    for _ in range(2):
        assert "ok" in post(panel, "vm.event", auth=SERVICE, **fields)
    panel.restart_after_kill()
    assert "ok" in post(panel, "vm.event", auth=SERVICE, **fields)
    rows = panel.events(event="reboot")
    assert [(row["epoch"], row["seq"]) for row in rows] == [("0", "1"), ("0", "2"), ("0", "3")]
    assert {row["uuid"] for row in rows} == {uuid_of("web")}


def test_an_event_of_a_vm_that_the_node_has_not_is_missed_and_makes_no_node(shared_panel: Panel) -> None:
    node = node_name()
    doc = post(shared_panel, "vm.event", auth=SERVICE, hostnode=node, name="nobody", event="started")
    assert error_of(doc) == ("missed", "vm")
    assert node not in {row["name"] for row in shared_panel.rows("vmhostnode")}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hostnode", ""),
        ("hostnode", "a b"),
        ("name", ""),
        ("event", "Started!"),
        ("event", ""),
        ("detail", "a b"),
        ("uuid", "1"),
        ("epoch", "-1"),
        ("seq", "0"),
    ],
)
def test_an_event_with_a_bad_field_is_refused_by_its_name(shared_panel: Panel, field: str, value: str) -> None:
    fields = {"hostnode": "kvm-01", "name": "web", "event": "started", "detail": "booted", "epoch": "1", "seq": "1"}
    doc = post(shared_panel, "vm.event", auth=SERVICE, **(fields | {field: value}))
    assert error_of(doc) == ("value", field)


def test_an_epoch_without_seq_is_refused(shared_panel: Panel) -> None:
    fields = {"hostnode": "kvm-01", "name": "web", "event": "started", "epoch": "1"}
    assert error_of(post(shared_panel, "vm.event", auth=SERVICE, **fields)) == ("value", "seq")


# Lists


@pytest.mark.parametrize(
    ("func", "parameters", "field"),
    [
        ("vm", {"vmstatus": "asleep"}, "vmstatus"),
        ("vm", {"sort": "colour"}, "sort"),
        ("vm", {"p_cnt": "1001"}, "p_cnt"),
        ("vm", {"p_num": "0"}, "p_num"),
        ("eventlog", {"since": "yesterday"}, "since"),
        ("eventlog", {"until": "2026-13-01T00:00:00"}, "until"),
        ("eventlog", {"after": "-1"}, "after"),
        ("eventlog", {"export": "maybe"}, "export"),
        ("eventlog", {"export": "on", "format": "xlsx"}, "format"),
        ("eventlog", {"format": "csv"}, "format"),
        ("eventlog", {"p_num": "101", "p_cnt": "1000"}, "p_num"),
        ("vmstat", {}, "elid"),
    ],
)
def test_a_bad_filter_is_refused_by_its_name(
    shared_panel: Panel, func: str, parameters: dict[str, str], field: str
) -> None:
    assert error_of(shared_panel.call(func, **parameters)) == ("value", field)


def test_an_unknown_function_format_or_too_many_parameters_are_errors(shared_panel: Panel) -> None:
    assert error_of(shared_panel.call("vm.fly")) == ("missed", "func")
    params = {"func": "vm", "out": "yaml"}
    answer = requests.get(shared_panel.url, params=params, auth=ADMIN, timeout=TIMEOUT_S)
    assert error_of(answer.json()["doc"]) == ("value", "out")
    many = {f"a{number}": "1" for number in range(200)}
    assert error_of(shared_panel.call("vm", **many)) == ("value", "func")
    assert requests.put(shared_panel.url, timeout=TIMEOUT_S).status_code == 405
    assert shared_panel.status["counters"]["errors.value"] >= 2


def test_the_event_log_pages_from_the_oldest_follows_a_cursor_and_shows_the_newest_by_default(panel: Panel) -> None:
    settle(panel, entry(*(event(seq) for seq in range(1, 8))))
    first = panel.call("eventlog", p_num=1, p_cnt=3)
    assert [plain(row)["seq"] for row in first["elem"]] == ["1", "2", "3"]
    assert {name: first[name]["$"] for name in ("p_elems", "p_num", "p_cnt")} == {
        "p_elems": "7",
        "p_num": "1",
        "p_cnt": "3",
    }
    assert [row["seq"] for row in _rows(panel, p_num=3, p_cnt=3)] == ["7"]
    assert [row["seq"] for row in _rows(panel, p_cnt=3)] == ["5", "6", "7"]
    cursor = _rows(panel, p_num=2, p_cnt=3)[-1]["id"]
    assert [row["seq"] for row in _rows(panel, after=cursor, p_cnt=3)] == ["7"]
    assert _rows(panel, after=_rows(panel)[-1]["id"]) == []


def _rows(panel: Panel, **parameters: str | int) -> list[dict[str, str]]:
    return [plain(row) for row in panel.call("eventlog", **parameters)["elem"]]


@pytest.mark.parametrize("out", ["json", "xml", "text"])
def test_an_export_has_all_rows_however_many(panel: Panel, out: str) -> None:
    for batch in range(5):
        settle(panel, entry(*(event(seq, f"vm & {seq}") for seq in range(batch * 500 + 1, batch * 500 + 501))))
    params = {"func": "eventlog", "export": "on", "out": out, "event": "started"}
    body = requests.get(panel.url, params=params, auth=ADMIN, timeout=TIMEOUT_S).text
    if out == "json":
        names = [row["name"]["$"] for row in json.loads(body)["doc"]["elem"]]
    elif out == "xml":
        names = [element.findtext("name") or "" for element in ElementTree.fromstring(body)]
    else:
        names = [line.partition(" name=")[2].partition(" event=")[0] for line in body.splitlines()]
    assert names == [f"vm & {seq}" for seq in range(1, 2501)]


def test_an_export_as_a_file_gives_back_every_name_and_is_no_page(panel: Panel) -> None:
    names = ['a,"b"', "two\r\nlines", "=cmd|' /C calc'!A0", "'quoted", "Имя ☃", "plain"]
    settle(panel, entry(*(event(seq, name) for seq, name in enumerate(names, 1))))
    params = {"func": "eventlog", "export": "on"}
    answer = requests.get(panel.url, params=params | {"format": "csv"}, auth=ADMIN, timeout=TIMEOUT_S)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="eventlog.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))
    assert [row["name"].removeprefix("'") for row in rows] == names
    assert [row["name"][0] for row in rows[2:4]] == ["'", "'"]
    answer = requests.get(panel.url, params=params | {"format": "jsonl"}, auth=ADMIN, timeout=TIMEOUT_S)
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.content.splitlines()]
    assert [line["name"] for line in lines] == names
    assert lines == panel.events()
    answer = requests.get(panel.url, params=params | {"format": "csv"}, timeout=TIMEOUT_S, allow_redirects=False)
    assert answer.status_code == 303  # to sign in


def test_vms_are_filtered_sorted_and_paged(panel: Panel) -> None:
    settle(panel, entry(inventory(1, 0, **{"vm-10": "running", "vm-9": "running", "db": "shutoff"})))
    settle(panel, entry(inventory(1, 0, web="running"), node="kvm-02"))

    def names(**parameters: str | int) -> list[str]:
        return [plain(row)["name"] for row in panel.call("vm", **parameters)["elem"]]

    assert names() == ["db", "vm-9", "vm-10", "web"]
    assert names(sort="-name") == ["web", "vm-10", "vm-9", "db"]
    assert names(vmstatus="shutoff") == ["db"]
    assert names(hostnode="kvm-02") == ["web"]
    assert names(q="VM-1") == ["vm-10"]
    assert names(q=uuid_of("db")[:8]) == ["db"]
    assert names(warnings="on") == []
    assert names(p_cnt=3, p_num=2) == ["web"]


def test_samples_are_found_by_uuid_and_by_number_and_what_was_not_given_is_empty(panel: Panel) -> None:
    samples = [stats(seq, taken=float(seq), tx_packets=seq) for seq in (2, 3)]
    settle(panel, entry(inventory(1, 0, web="running"), *samples))
    number = panel.rows("vm")[0]["id"]
    for elid in (uuid_of("web"), number):
        rows = [plain(row) for row in panel.call("vmstat", elid=elid)["elem"]]
        assert [(row["tx_packets"], row["rx_packets"]) for row in rows] == [("2", ""), ("3", "")]
    rows = [plain(row) for row in panel.call("vmstat", elid=number, after=rows[0]["id"])["elem"]]
    assert [row["tx_packets"] for row in rows] == ["3"]
    assert error_of(panel.call("vmstat", elid="99")) == ("missed", "vm")


def test_rates_are_told_between_samples_also_across_pages_and_not_where_a_counter_is_missing_or_went_back(
    panel: Panel,
) -> None:
    counters: list[dict[str, int]] = [
        {"cpu_ns": 1000, "tx_packets": 10},
        {"cpu_ns": 3000, "tx_packets": 15, "write_requests": 7},
        {"cpu_ns": 4000, "tx_packets": 5, "write_requests": 7},
        {"cpu_ns": 500, "tx_packets": 9, "write_requests": 9},
    ]
    taken = [stats(seq, "web", 1000.0 + 10 * seq, **given) for seq, given in enumerate(counters, 1)]
    other = stats(1, taken=1025.0, cpu_ns=7, tx_packets=1000)
    for message in taken[:2]:
        settle(panel, entry(message))
    settle(panel, entry(other, node="kvm-02"))
    settle(panel, entry(*taken[2:], inventory(9, 0, web="running")))

    def rates(**parameters: str | int) -> list[tuple[str, str, str]]:
        rows = [plain(row) for row in panel.call("vmstat", elid=uuid_of("web"), **parameters)["elem"]]
        assert all("memory_kib_rate" not in row for row in rows)
        return [(row["cpu_ns_rate"], row["tx_packets_rate"], row["write_requests_rate"]) for row in rows]

    expected = [("", "", ""), ("200.000", "0.500", ""), ("", "", ""), ("100.000", "", "0.000"), ("", "", "")]
    assert rates() == expected
    assert rates(p_cnt=3) == expected[2:]
    assert rates(after=1, p_cnt=1) == expected[1:2]
    assert rates(since=1030, until=1030) == expected[3:4]


# Retention


def test_a_replay_of_an_event_that_retention_deleted_is_known_and_stays_deleted(tmp_path: Path) -> None:
    with Panel(tmp_path) as panel:
        now = time.time()
        settle(panel, entry(*(event(seq, time=now - 3 * 86400) for seq in range(1, 51)), event(51, time=now)))
        panel.terminate()
        age_events(panel, "id < 51", 3)
        panel.start()
        wait_until(lambda: [row["seq"] for row in panel.events()] == ["51"], "retention to delete the old events")
        assert len(panel.events()) == 51 - 50
        for _ in range(2):
            verdict = settle(panel, entry(*(event(seq, time=now - 3 * 86400) for seq in range(1, 51)), event(52)))[0]
            assert verdict.known >= 50
            assert [row["seq"] for row in panel.events()] == ["51", "52"]
            panel.restart_after_kill()
        assert settle(panel, entry(event(7), base=52))[0].known == 1


def age_events(panel: Panel, condition: str, days: int) -> None:
    """As if these had been registered so many days earlier, and older ones were not kept any more."""
    database = sqlite3.connect(panel.prefix / "var" / "vmwatch-panel.db")
    with database:
        database.execute(f"UPDATE eventlog SET received = received - {days * 86400} WHERE {condition}")
    database.close()
    with (panel.prefix / "etc" / "vmmgr.conf").open("a") as file:
        file.write("EventRetentionDays 2\n")


# Nodes


def test_a_node_appears_by_itself_and_tells_of_its_last_sign_of_life(panel: Panel) -> None:
    with Heart(panel, silent=True):
        settle(panel, entry(event(1), live=True) | {"interval": 3600})
        row = panel.rows("vmhostnode")[0]
        assert (row["name"], row["state"], row["version"]) == (NODE, "active", "vmwatch-node/1.0.0")
        assert row["last_seen"]
        assert float(row["lag"]) > 0
        settle(panel, entry(node="kvm-02", live=False))
        assert [(row["name"], row["state"]) for row in panel.rows("vmhostnode")] == [
            (NODE, "active"),
            ("kvm-02", "new"),
        ]


def test_a_node_is_added_edited_and_refused_twice(panel: Panel) -> None:
    form = post(panel, "vmhostnode.edit")
    assert set(form) == {"$func", "name", "address", "reach", "ssh", "allow_install", "libvirt_uri"}
    added = post(panel, "vmhostnode.edit", name="kvm-09", address="10.0.0.9", reach="ssh", sok="ok")
    elid = added["tparams"]["elid"]["$"]
    assert error_of(post(panel, "vmhostnode.edit", name="kvm-09", sok="ok")) == ("exists", "name")
    assert post(panel, "vmhostnode.edit", elid=elid)["address"] == {"$": "10.0.0.9"}
    assert "ok" in post(panel, "vmhostnode.edit", elid=elid, reach="manual", sok="ok")
    assert "ok" in post(panel, "vmhostnode.edit", elid="kvm-09", address="", sok="ok")
    panel.restart_after_kill()
    row = panel.rows("vmhostnode")[0]
    assert (row["id"], row["name"], row["address"], row["reach"], row["state"]) == (elid, "kvm-09", "", "manual", "new")
    for field, value in (("reach", "pigeon"), ("address", "a b"), ("name", "other")):
        fields = {"elid": elid, "sok": "ok", field: value}
        assert error_of(post(panel, "vmhostnode.edit", **fields)) == ("value", field)


@pytest.mark.parametrize("name", ["vmwatch-master", "vmwatch-panel"])
def test_a_node_cannot_have_the_name_of_what_is_none(shared_panel: Panel, name: str) -> None:
    assert error_of(post(shared_panel, "vmhostnode.edit", name=name, sok="ok")) == ("value", "name")
    assert error_of(post(shared_panel, "vm.event", SERVICE, hostnode=name, name="w", event="started")) == (
        *("value", "hostnode"),
    )
    assert name not in {row["name"] for row in shared_panel.rows("vmhostnode")}


def test_a_removed_node_that_reports_is_shown_as_such_until_somebody_decides(panel: Panel) -> None:
    """What it says counts: its VMs may have been started elsewhere meanwhile, which must be seen."""
    settle(panel, entry(event(1)))
    for again in (2, 3):
        assert "ok" in post(panel, "vmhostnode.delete", elid=NODE, sok="ok")
        assert panel.rows("problems", state="unsolved") == panel.rows("vmhostnode") == []
        settle(panel, entry(event(again)))
        assert [(row["name"], row["removed"]) for row in panel.rows("vmhostnode")] == [(NODE, "yes")]
        (told,) = panel.rows("problems", state="unsolved")
        assert (told["type"], told["object"], told["next"]) == ("removed_node_reports", NODE, "")
    assert [row["vmstatus"] for row in panel.rows("vm")] == ["running"]
    page = requests.get(panel.url, params={"func": "vmhostnode"}, auth=ADMIN, timeout=60).text
    assert "removed, reports" in page
    panel.restart_after_kill()
    assert [row["removed"] for row in panel.rows("vmhostnode")] == ["yes"]
    elid = told["id"]
    assert "ok" in post(panel, "problems.solve", elid=elid)
    wait_until(lambda: panel.rows("problems", elid=elid)[0]["state"] == "failed", "an attempt to fail")
    assert "it is not reached" in panel.rows("problems.log", plid=elid)[0]["result"]
    assert "ok" in post(panel, "vmhostnode.edit", name=NODE, sok="ok")
    assert panel.rows("problems", state="unsolved") == []
    assert [(row["name"], row["removed"]) for row in panel.rows("vmhostnode")] == [(NODE, "no")]


def test_a_node_that_is_added_again_is_new_until_it_reports(panel: Panel) -> None:
    settle(panel, entry(event(1), live=True))
    assert "ok" in post(panel, "vmhostnode.delete", elid=NODE, sok="ok")
    assert "ok" in post(panel, "vmhostnode.edit", name=NODE, sok="ok")
    assert [(row["state"], row["last_seen"]) for row in panel.rows("vmhostnode")] == [("new", "")]
    settle(panel, entry(event(2), live=True))
    assert [row["state"] for row in panel.rows("vmhostnode")] == ["active"]


def test_a_deleted_node_takes_its_vms_along_keeps_its_keys_and_comes_back_when_it_reports(panel: Panel) -> None:
    settle(panel, entry(event(1), event(2, "db")))
    assert error_of(post(panel, "vmhostnode.delete", elid="77", sok="ok")) == ("missed", "vmhostnode")
    assert error_of(post(panel, "vmhostnode.delete", elid=NODE)) == ("value", "sok")
    assert "ok" in post(panel, "vmhostnode.delete", elid=NODE, sok="ok")
    for _ in range(2):
        assert panel.rows("vm") == panel.rows("vmhostnode") == []
        assert len(panel.events()) == 2
        panel.restart_after_kill()
    verdict = settle(panel, entry(event(1), event(2, "db"), event(3)))[0]
    assert (verdict.applied, verdict.known) == (1, 2)
    assert verdict.want_inventory
    assert [row["name"] for row in panel.rows("vmhostnode")] == [NODE]
    assert [row["name"] for row in panel.rows("vm")] == ["web"]


# Live


def stream(panel: Panel, after: int, run: str, last: str = "") -> Generator[dict[str, Any], None, None]:
    """Messages of a live page's stream: `{"id", "event", "data"}`."""
    headers = {"Last-Event-ID": last} if last else {}
    params = {"after": str(after), "run": run}
    with requests.get(
        f"{panel.url}/live", params=params, headers=headers, auth=ADMIN, stream=True, timeout=TIMEOUT_S
    ) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        found: dict[str, Any] = {}
        for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
            if not line and "data" in found:
                yield found
                found = {}
            elif ": " in line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                found[name] = json.loads(value) if name == "data" else value


def run_of(panel: Panel) -> str:
    page = requests.get(panel.url, params={"func": "vm"}, auth=ADMIN, timeout=TIMEOUT_S).text
    return page.partition('data-run="')[2].partition('"')[0]


def test_a_live_page_hears_of_changes_and_resumes_after_the_last_event_it_saw(panel: Panel) -> None:
    settle(panel, entry(event(1)))
    messages = stream(panel, 1, run_of(panel))
    next(messages)
    settle(panel, entry(event(2, "web", "stopped", "destroyed"), event(3, "<b>")))
    message = next(messages)
    assert message["id"] == "3"
    assert {vm["name"]: vm["state"] for vm in message["data"]["vms"]} == {"web": "shutoff", "<b>": "running"}
    messages.close()
    wait_until(lambda: panel.status["live_clients"] == 0, "the page's leaving to be noticed")
    settle(panel, entry(event(4, "db"), event(5, "db", "suspended", "paused")))
    message = next(stream(panel, 1, run_of(panel), last="3"))
    assert [row["seq"] for row in message["data"]["events"]] == ["4", "5"]
    assert {vm["name"]: vm["state"] for vm in message["data"]["vms"]}["db"] == "paused"
    assert message["id"] == "5"


def test_a_live_page_of_an_earlier_run_or_that_missed_too_much_is_told_to_load_anew(panel: Panel) -> None:
    settle(panel, entry(event(1)))
    run_before = run_of(panel)
    settle(panel, entry(*(event(seq) for seq in range(2, MOST_EVENTS + 3))))
    assert next(stream(panel, 1, run_before))["event"] == "reset"
    panel.restart_after_kill()
    assert next(stream(panel, MOST_EVENTS + 2, run_before))["event"] == "reset"


def test_a_live_page_needs_a_proof_of_identity_with_pages(shared_panel: Panel) -> None:
    assert requests.get(f"{shared_panel.url}/live", timeout=TIMEOUT_S).status_code == 403
    assert requests.get(f"{shared_panel.url}/live", auth=SERVICE, timeout=TIMEOUT_S).status_code == 403
    assert requests.get(f"{shared_panel.url}/live", auth=("admin", "x"), timeout=TIMEOUT_S).status_code == 401


# The process


def test_sigterm_ends_it_in_order_and_soon_also_with_live_pages_open(panel: Panel) -> None:
    messages = [stream(panel, 0, run_of(panel)) for _ in range(3)]
    for each in messages:
        next(each)
    begun = time.monotonic()
    assert panel.terminate() == Exit.OK
    assert time.monotonic() - begun < 10
    assert not (panel.prefix / "var" / "run" / "vmwatch-panel.sock").exists()
    assert not (panel.prefix / "var" / "run" / "vmwatch-panel.pid").exists()
    assert not (panel.prefix / "var" / "vmwatch-panel.db-wal").exists()
    assert "ends with exit code 0" in panel.log


def test_a_second_signal_ends_it_at_once(panel: Panel) -> None:
    with socket.create_connection(("127.0.0.1", panel.port)) as slow:
        # a call that never ends keeps the stop in order waiting
        slow.sendall(b"POST /vmmgr HTTP/1.1\r\nHost: panel\r\nContent-Length: 10\r\n\r\n")
        panel.signal(signal.SIGTERM)
        wait_until(lambda: panel.status.get("stopping", True), "the panel to begin its stop")
        begun = time.monotonic()
        panel.signal(signal.SIGTERM)
        assert panel.wait() == Exit.OK
        assert time.monotonic() - begun < 3


def test_with_a_certificate_it_speaks_tls_only_and_the_cookie_is_secure(tmp_path: Path) -> None:
    panel = Panel(tmp_path)
    for name in ("first", "second"):
        files = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *subject],
            check=True,
            capture_output=True,
        )
    certificate, key = tmp_path / "panel.pem", tmp_path / "panel.key"

    def use(name: str) -> None:
        certificate.write_bytes((tmp_path / f"{name}.pem").read_bytes())
        key.write_bytes((tmp_path / f"{name}.key").read_bytes())

    use("first")
    conf = tmp_path / "etc" / "vmmgr.conf"
    conf.write_text(conf.read_text() + f"PanelCertificate {certificate}\nPanelKey {key}\n")
    url = panel.url.replace("http:", "https:")
    data = {"func": "auth", "out": "json", "username": ADMIN[0], "password": ADMIN[1]}
    with panel:
        answer = requests.post(url, data=data, verify=str(tmp_path / "first.pem"), timeout=TIMEOUT_S)
        assert "Secure" in answer.headers["Set-Cookie"]
        with pytest.raises(requests.ConnectionError):
            requests.post(panel.url, data=data, timeout=TIMEOUT_S)
        use("second")
        panel.signal(signal.SIGHUP)
        wait_until(lambda: "configuration read again" in panel.log, "the configuration to be read again")
        answer = requests.post(url, data=data, verify=str(tmp_path / "second.pem"), timeout=TIMEOUT_S)
        assert "auth" in answer.json()["doc"]


def test_a_key_that_does_not_fit_its_certificate_is_a_configuration_error(tmp_path: Path) -> None:
    panel = Panel(tmp_path)
    (tmp_path / "bad.pem").write_text("no certificate\n")
    conf = tmp_path / "etc" / "vmmgr.conf"
    conf.write_text(conf.read_text() + f"PanelCertificate {tmp_path}/bad.pem\nPanelKey {tmp_path}/bad.pem\n")
    result = run(panel)
    assert result.returncode == Exit.CONFIGURATION
    assert "PanelCertificate, PanelKey:" in result.stderr


def test_a_port_in_use_is_told_with_the_address_and_is_a_configuration_error(tmp_path: Path) -> None:
    panel = Panel(tmp_path)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", panel.port))
        taken.listen()
        panel.launch()
        assert panel.wait() == Exit.CONFIGURATION
    assert f"PanelListen: cannot listen on 127.0.0.1:{panel.port}" in panel.log
    panel.close()


def test_a_second_panel_of_the_same_prefix_does_not_start(panel: Panel) -> None:
    second = run(panel)
    assert second.returncode == Exit.CONFIGURATION
    assert f"already running as process {panel.pid}" in second.stderr


def test_a_newer_schema_is_refused_and_the_database_stays(panel: Panel) -> None:
    panel.terminate()
    database = panel.prefix / "var" / "vmwatch-panel.db"
    other = sqlite3.connect(database)
    other.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    other.commit()
    other.close()
    result = run(panel)
    assert result.returncode == Exit.FAILURE
    assert "schema version 99" in result.stderr
    assert "Traceback" not in result.stderr
    assert database.exists()


def test_the_commands_of_accounts_say_what_they_did(tmp_path: Path) -> None:
    panel = Panel(tmp_path)
    assert run(panel, "user", "set", "anna", typed="correct horse\n").stdout == "anna: viewer\n"
    assert run(panel, "user", "set", "anna", "--role", "operator", typed="correct horse\n").stdout == "anna: operator\n"
    assert run(panel, "user", "set", "anna", typed="battery staple\n").stdout == "anna: operator\n"
    assert run(panel, "user", "list").stdout == "admin\tadmin\nanna\toperator\nvmwatch\tservice\n"
    assert run(panel, "user", "delete", "anna").returncode == Exit.OK
    assert run(panel, "user", "delete", "anna").returncode == Exit.FAILURE
    assert run(panel, "user", "set", "anna", typed="\n").returncode == Exit.FAILURE
    assert run(panel, "user", "set", "a:b", typed="correct horse\n").returncode == Exit.USAGE
    assert run(panel, "user", "set", "anna", "--role", "king", typed="correct horse\n").returncode == Exit.USAGE
    # Words that no salted hash can hold by chance: its alphabet has no blank.
    stored = b"".join(path.read_bytes() for path in (tmp_path / "var").glob("vmwatch-panel.db*"))
    assert b"service" in stored
    assert b"correct horse" not in stored
    assert b"battery staple" not in stored


def test_check_validates_the_file_and_starts_nothing(tmp_path: Path) -> None:
    panel = Panel(tmp_path)
    result = run(panel, "--check")
    assert (result.returncode, result.stdout) == (Exit.OK, f"{tmp_path}/etc/vmmgr.conf: correct\n")
    (tmp_path / "etc" / "vmmgr.conf").write_text("PanelListen here\n")
    result = run(panel, "--check")
    assert result.returncode == Exit.CONFIGURATION
    assert f"{tmp_path}/etc/vmmgr.conf:1: PanelListen: 'here' is not allowed; IP:port is" in result.stderr


def test_a_fresh_machine_without_a_file_gets_the_defaults(tmp_path: Path) -> None:
    empty = subprocess.run(
        [command("vmwatch-panel"), "--prefix", str(tmp_path), "--check"], capture_output=True, text=True, check=False
    )
    assert empty.returncode == Exit.OK
    assert "the defaults apply" in empty.stderr
    named = subprocess.run(
        [command("vmwatch-panel"), "--config", str(tmp_path / "none.conf"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert named.returncode == Exit.CONFIGURATION


def test_a_guesser_is_slowed_down_while_others_are_served(panel: Panel) -> None:
    session = session_of(panel, SERVICE)
    statuses = []
    for _ in range(8):
        begun = time.monotonic()
        data = {"func": "auth", "out": "json", "username": "admin", "password": "wrong"}
        statuses.append(requests.post(panel.url, data=data, timeout=TIMEOUT_S).status_code)
        waited = time.monotonic() - begun
    assert set(statuses) == {200}
    assert waited > 2
    headers = {"Content-Type": "application/json", "Cookie": f"{COOKIE}={session}"}
    params = {"func": "vmwatch.report"}
    answer = requests.post(panel.url, params=params, data=report(), headers=headers, timeout=TIMEOUT_S)
    assert decode_answer(answer.content) == []
