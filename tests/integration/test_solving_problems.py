"""Problems solved through the panel's API and the operator's command, by solvers that are real programs."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.test_panel_api import error_of, post, set_user
from tests.testbed.solvingpanel import SHORT, SOLVED_HERE, SolvingPanel
from tests.testbed.stack import ADMIN, SERVICE, Row, short_folder
from tests.testbed.waiting import wait_until
from vmwatch.panel.mender import CUT_TEXT, KEPT_LINES

OPERATOR = ("operator", "an operator's password")
VIEWER = ("viewer", "a viewer's password")
STOPPED, MASTER = (kind.value for kind in SOLVED_HERE)
LIMIT_S = 120.0


@pytest.fixture(scope="module")
def shared() -> Iterator[SolvingPanel]:
    """One panel for all tests that each have an object of their own."""
    folder = short_folder()
    folder.mkdir()
    panel = SolvingPanel(folder)
    for account in (OPERATOR, VIEWER):
        set_user(panel, *account, account[0])
    try:
        with panel:
            yield panel
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def panel(short_path: Path) -> Iterator[SolvingPanel]:
    """A panel of the test's own, to kill."""
    with SolvingPanel(short_path) as panel:
        yield panel


def register(panel: SolvingPanel, subject: str, kind: str = STOPPED) -> str:
    """A problem; its number."""
    doc = post(panel, "problems.register", SERVICE, type=kind, object=subject, description=f"{subject} is ill")
    elid: str = doc["tparams"]["elid"]["$"]
    return elid


def solve(panel: SolvingPanel, elid: str, auth: tuple[str, str] = ADMIN) -> str:
    """Solve now; the attempt's number."""
    attempt: str = post(panel, "problems.solve", auth, elid=elid)["tparams"]["attempt"]["$"]
    return attempt


def row_of(panel: SolvingPanel, elid: str) -> Row:
    (row,) = panel.rows("problems", elid=elid)
    return row


def in_state(panel: SolvingPanel, elid: str, state: str) -> Row:
    """Its row when it is in this state."""

    def reached() -> Row | None:
        rows = panel.rows("problems", elid=elid)
        return rows[0] if rows and rows[0]["state"] == state else None

    row = wait_until(reached, f"problem {elid} to be {state}", LIMIT_S)
    assert row is not None
    return row


def log_of(panel: SolvingPanel, elid: str) -> list[Row]:
    return panel.rows("problems.log", plid=elid)


def until(condition: Callable[[], Any], what: str) -> None:
    wait_until(condition, what, LIMIT_S)


def test_solve_now_shows_what_is_done_and_logs_who_when_and_what_came_of_it(shared: SolvingPanel) -> None:
    elid = register(shared, "now")
    attempt = solve(shared, elid, OPERATOR)
    until(lambda: log_of(shared, elid)[0]["output"] == "looks at now", "the progress to be seen")
    (running,) = log_of(shared, elid)
    assert (running["outcome"], running["ended"]) == ("", "")
    row = row_of(shared, elid)
    assert (row["state"], row["attempts"], row["next"], row["solver"]) == ("solving", "1", "", "yes")
    assert solve(shared, elid) == attempt  # it is not begun twice
    shared.end("now")
    row = in_state(shared, elid, "solved")
    assert row["closed"]
    (done,) = log_of(shared, elid)
    told = [done[name] for name in ("id", "who", "outcome", "result", "lines", "output")]
    assert told == [
        *(attempt, "operator", "solved", "the script ended with 0", "2", "looks at now\nhas seen <b>enough</b>")
    ]
    assert error_of(post(shared, "problems.solve", elid=elid)) == ("value", "elid")


def test_failed_attempts_are_repeated_by_themselves_until_only_a_person_may(shared: SolvingPanel) -> None:
    shared.end("hard", 7)
    elid = register(shared, "hard")
    assert row_of(shared, elid)["next"]
    post(shared, "problems.edit", elid=elid, period="1", attempts="2", sok="ok")
    until(lambda: row_of(shared, elid)["attempts"] == "2", "two automatic attempts")
    row = in_state(shared, elid, "failed")
    assert (row["next"], row["attempts_most"]) == ("", "2")
    assert [(one["who"], one["outcome"], one["result"]) for one in log_of(shared, elid)] == [
        ("automatic", "failed", "the script ended with 7")
    ] * 2
    shared.end("hard")
    solve(shared, elid)
    in_state(shared, elid, "solved")
    assert [one["who"] for one in log_of(shared, elid)] == ["admin", "automatic", "automatic"]


def test_an_attempt_that_takes_too_long_is_ended_and_failed(shared: SolvingPanel) -> None:
    elid = register(shared, "slow", SHORT)
    solve(shared, elid)
    in_state(shared, elid, "failed")
    (row,) = log_of(shared, elid)
    assert (row["outcome"], row["result"]) == ("timeout", "it did not end within 1 s")


def test_of_a_chatty_attempt_the_last_lines_are_kept(shared: SolvingPanel) -> None:
    shared.end("chatty")
    elid = register(shared, "chatty")
    solve(shared, elid)
    in_state(shared, elid, "solved")
    (row,) = log_of(shared, elid)
    lines = row["output"].split("\n")
    assert (row["lines"], len(lines), lines[-2:]) == ("1002", KEPT_LINES, ["1000", "has seen <b>enough</b>"])


def test_two_problems_of_one_object_are_solved_one_after_the_other(shared: SolvingPanel) -> None:
    first, second, other = register(shared, "one"), register(shared, "one", MASTER), register(shared, "other")
    solve(shared, first)
    until(lambda: shared.began("one"), "the first to begin")
    solve(shared, second)
    waits = "waits for another attempt about one"
    until(lambda: log_of(shared, second)[0]["output"] == waits, "the second to wait")
    solve(shared, other)
    until(lambda: shared.began("other"), "another object's to go on beside it")
    shared.end("one")
    for elid in (first, second):
        in_state(shared, elid, "solved")
    assert log_of(shared, second)[0]["output"].startswith(f"{waits}\nlooks at one")
    shared.end("other")
    in_state(shared, other, "solved")


def test_what_nothing_can_solve_says_what_a_person_must_do(shared: SolvingPanel) -> None:
    elid = register(shared, "kvm-01", "clock_skew")
    row = row_of(shared, elid)
    assert (row["solver"], row["next"], row["advice"]) == ("no", "", "Set the node's clock, and have it kept by NTP.")
    doc = post(shared, "problems.solve", elid=elid)
    assert error_of(doc) == ("value", "elid")
    assert "a person must act. Set the node's clock" in doc["error"]["msg"]["$"]
    assert log_of(shared, elid) == []


def test_each_role_may_do_what_is_its_own(shared: SolvingPanel) -> None:
    elid = register(shared, "roles")
    for func in ("problems.solve", "problems.edit", "problems.delete"):
        assert error_of(post(shared, func, VIEWER, elid=elid, sok="ok")) == ("access", func)
        assert error_of(post(shared, func, SERVICE, elid=elid, sok="ok")) == ("access", func)
    assert "elem" in post(shared, "problems.log", VIEWER, plid=elid)
    assert "ok" in post(shared, "problems.edit", OPERATOR, elid=elid, automatic="off", sok="ok")
    assert error_of(post(shared, "problems.delete", OPERATOR, elid=elid, sok="ok")) == ("access", "problems.delete")
    # a GET changes nothing: a link on another site would make a browser send it
    params = {"func": "problems.solve", "out": "json", "elid": elid}
    answer = requests.get(shared.url, params=params, auth=ADMIN, timeout=60)
    assert error_of(answer.json()["doc"]) == ("access", "problems.solve")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"automatic": "maybe"}, "automatic"),
        ({"period": "0"}, "period"),
        ({"attempts": "0"}, "attempts"),
        ({"elid": "999999"}, "problem"),
    ],
)
def test_a_wrong_value_is_named_and_changes_nothing(
    shared: SolvingPanel, fields: dict[str, str], named: str
) -> None:
    elid = register(shared, "edited")
    assert error_of(post(shared, "problems.edit", ADMIN, **({"elid": elid, "sok": "ok"} | fields)))[1] == named
    row = row_of(shared, elid)
    assert (row["automatic"], row["period"], row["attempts_most"]) == ("on", "300", "5")


def test_without_sok_the_form_shows_what_would_be(shared: SolvingPanel) -> None:
    elid = register(shared, "form")
    doc = post(shared, "problems.edit", elid=elid, automatic="off")
    assert (doc["automatic"]["$"], doc["period"]["$"], doc["attempts"]["$"]) == ("off", "300", "5")
    assert row_of(shared, elid)["automatic"] == "on"


def test_a_problem_that_was_deleted_comes_back_as_a_new_one_without_a_log(shared: SolvingPanel) -> None:
    elid = register(shared, "deleted")
    solve(shared, elid)
    assert error_of(post(shared, "problems.delete", elid=elid, sok="ok")) == ("exists", "elid")
    shared.end("deleted")
    in_state(shared, elid, "solved")
    assert error_of(post(shared, "problems.delete", elid=elid)) == ("value", "sok")
    assert "ok" in post(shared, "problems.delete", elid=elid, sok="ok")
    assert shared.rows("problems", elid=elid) == []
    again = register(shared, "deleted")
    assert again != elid
    assert log_of(shared, again) == []
    assert row_of(shared, again)["count"] == "1"


def test_an_attempt_that_the_panels_end_cuts_is_logged_as_such_and_counts(panel: SolvingPanel) -> None:
    killed, ended = register(panel, "killed"), register(panel, "ended")
    solve(panel, killed)
    until(lambda: panel.began("killed"), "the attempt to begin")
    panel.restart_after_kill()
    row = in_state(panel, killed, "failed")
    assert row["attempts"] == "1"
    assert row["next"]
    assert [(one["outcome"], one["result"]) for one in log_of(panel, killed)] == [("cut", CUT_TEXT)]
    solve(panel, ended)
    until(lambda: panel.began("ended"), "the attempt to begin")
    assert panel.terminate() == 0
    panel.start()
    in_state(panel, ended, "failed")
    assert [one["outcome"] for one in log_of(panel, ended)] == ["cut"]
    assert row_of(panel, killed)["attempts"] == "1"
    assert "Traceback" not in panel.log


def test_the_command_follows_an_attempt_and_its_exit_code_says_what_came_of_it(shared: SolvingPanel) -> None:
    elid = register(shared, "followed")
    shared.end("unfollowed", 4)
    failing = register(shared, "unfollowed")
    process = shared.vmwatch("solve", elid, user=OPERATOR)
    until(lambda: shared.began("followed"), "the attempt to begin")
    assert process.stdout is not None
    assert process.stdout.readline() == "looks at followed\n"
    shared.end("followed")
    assert process.communicate(timeout=LIMIT_S)[0].splitlines() == [
        "has seen <b>enough</b>",
        "solved: the script ended with 0",
    ]
    assert process.returncode == 0
    process = shared.vmwatch("solve", failing, user=OPERATOR)
    assert process.communicate(timeout=LIMIT_S)[0].splitlines()[-1] == "failed: the script ended with 4"
    assert process.returncode == 1
    listed = shared.vmwatch("problems", user=VIEWER).communicate(timeout=LIMIT_S)[0].splitlines()
    states = {fields[3]: fields[1] for fields in (line.split("\t") for line in listed)}
    assert "followed" not in states
    assert states["unfollowed"] == "failed"
    listed = shared.vmwatch("problems", "--all", user=VIEWER).communicate(timeout=LIMIT_S)[0].splitlines()
    assert any(line.split("\t")[3] == "followed" for line in listed)


def test_the_command_says_why_it_cannot_solve(shared: SolvingPanel) -> None:
    elid = register(shared, "kvm-02", "clock_skew")
    for number, said in ((elid, "Set the node's clock"), ("999999", "there is no problem '999999'")):
        process = shared.vmwatch("solve", number, user=OPERATOR)
        _, errors = process.communicate(timeout=LIMIT_S)
        assert said in errors
        assert process.returncode == 1
