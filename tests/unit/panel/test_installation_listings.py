"""Which listings tell an installation something (rule 7): those that count for the picture, and the fresh ones."""

from msgspec.structs import replace

from tests.unit.panel.reports import EPOCH, NODE, inventory, uuid_of
from tests.unit.panel.test_installations import running, tell
from vmwatch.panel.installation import Installation, Phase
from vmwatch.panel.installations import keep_installation
from vmwatch.panel.knowledge import Draft, Known
from vmwatch.panel.problems import Kind

SHUTDOWN = 1


def known_with(installation: Installation) -> Known:
    known = Known(run="r")
    known.installations[uuid_of("web")] = installation
    return known


def listing(seq: int, as_of: int, web: str, token: str = "") -> dict[str, object]:
    message = inventory(seq, as_of, web=web, db="running")
    message["domains"][0]["reason"] = SHUTDOWN
    return message | {"token": token}


def of(known: Known) -> Installation:
    return known.installations[uuid_of("web")]


def test_a_listing_older_than_the_last_one_counts_no_end() -> None:
    """The VM had stopped for a moment; the event of that end is on its way, and is to be counted once."""
    known = known_with(replace(running(), place=(EPOCH, 5)))
    tell(known, listing(30, 20, "running"))
    tell(known, listing(16, 10, "shutoff"))
    assert (of(known).phase, of(known).left) == (Phase.RUNNING, 2)


def test_after_a_start_of_the_panel_a_listing_without_its_token_is_not_fresh() -> None:
    """`asked` is of the panel's run before; the present one asks every node at its start."""
    known = known_with(replace(running(), phase=Phase.LISTING, step=0, asked=0))
    token = known.next_token()
    for seq, other in enumerate(("", "q-1", "r-x"), 10):
        tell(known, listing(seq, 5, "shutoff", other))
        assert of(known).phase is Phase.LISTING
    tell(known, listing(20, 5, "shutoff", token))
    assert of(known).phase is Phase.STARTING


def test_another_nodes_listing_tells_nothing_and_one_that_is_done_is_left_alone() -> None:
    known = known_with(running())
    tell(known, listing(10, 9, "shutoff"), node="kvm-02")
    assert of(known) == running()
    done = replace(running(), phase=Phase.DONE)
    known = known_with(done)
    tell(known, listing(10, 9, "shutoff"))
    assert of(known) == done
    draft = Draft(known)
    assert draft.installations_on(NODE) == []
    draft.installations[uuid_of("web")] = done
    assert draft.installations_on(NODE) == []
    draft.installations[uuid_of("web")] = running()
    assert draft.installations_on(NODE) == [running()]
    assert draft.installations_on("kvm-02") == []


def test_a_failure_is_told_once_however_the_restoring_goes_on() -> None:
    known = known_with(running())
    tell(known, listing(10, 9, "crashed"))
    problem = known.problems[Kind.INSTALL_FAILED, uuid_of("web")]
    assert problem.count == 1
    draft = Draft(known)
    keep_installation(draft, of(known), replace(of(known), phase=Phase.DONE), 9.0)
    draft.merge()
    assert known.problems[Kind.INSTALL_FAILED, uuid_of("web")].count == 1
