"""What the files of the master and the nodes shall say."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.panel.configureaddress import Found
from vmwatch.panel.configureplan import Plan, Wish, files_of, make_plan, new_secret, values_text
from vmwatch.shared.keys import node_key

OLD, NEW = "O" * 32, "N" * 32
ADDRESS = Found("192.0.2.10", "192.0.2.10", "it is so")
PANEL = {"panel_url": "http://127.0.0.1:1500/vmmgr", "panel_user": "vmwatch", "panel_password": "p"}


def plan(present: dict[str, str], nodes: list[str], wish: Wish | None = None, address: Found = ADDRESS) -> Plan:
    return make_plan(present, address, 1515, nodes, PANEL, NEW, wish or Wish())


def after(made: Plan, present: dict[str, str] | None = None) -> dict[str, str]:
    """What the master's file says when the plan was carried out."""
    values = {**(present or {}), **made.master}
    return {name: value for name, value in values.items() if value is not None}


def test_a_secret_is_32_of_capital_letters_and_digits() -> None:
    chance = random.Random(1)
    made = {new_secret(chance.choice) for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch("[A-Z0-9]{32}", secret) for secret in made)


def test_the_first_time_there_is_a_new_secret_and_each_node_has_a_key_of_its_own() -> None:
    made = plan({}, ["a", "b"])
    assert made.master["secret"] == NEW
    assert made.master["listen"] == "tcp://192.0.2.10:1515"
    assert made.master["disabled"] is None
    for name in ("a", "b"):
        assert made.nodes[name] == {
            "connect": "tcp://192.0.2.10:1515",
            "ack_connect": None,
            "node_id": name,
            "node_key": node_key(NEW, name).hex(),
            "secret": None,
        }


def test_where_per_node_keys_are_off_all_have_the_secret() -> None:
    made = plan({"secret": OLD, "per_node_keys": "no"}, ["a"])
    assert (made.nodes["a"]["secret"], made.nodes["a"]["node_key"]) == (OLD, None)


def test_a_secret_that_is_there_is_kept_also_a_short_one_of_an_older_file() -> None:
    for secret in (OLD, "SHORT"):
        assert plan({"secret": secret, "secret_previous": NEW}, ["a"]).master["secret"] == secret
        assert plan({"secret": secret, "secret_previous": NEW}, ["a"]).master["secret_previous"] == NEW


def test_a_secret_that_is_not_allowed_is_replaced() -> None:
    assert plan({"secret": "lower"}, ["a"]).master["secret"] == NEW


def test_a_rotation_keeps_the_old_secret_as_the_previous_one_until_that_is_to_be_forgotten() -> None:
    made = plan({"secret": OLD}, ["a"], Wish(rotate=True))
    assert (made.master["secret"], made.master["secret_previous"]) == (NEW, OLD)
    assert made.nodes["a"]["node_key"] == node_key(NEW, "a").hex()
    forgotten = plan({"secret": NEW, "secret_previous": OLD}, ["a"], Wish(forget_previous=True))
    assert (forgotten.master["secret"], forgotten.master["secret_previous"]) == (NEW, None)


def test_without_a_node_the_master_is_disabled_and_the_first_node_lifts_it() -> None:
    none = plan({}, [])
    assert (none.master["disabled"], none.disabled) == ("yes", True)
    one = plan(after(none), ["a"])
    assert (one.master["disabled"], one.disabled) == (None, False)
    assert one.master["secret"] == none.master["secret"]


def test_what_a_person_has_disabled_is_not_lifted_by_a_repair() -> None:
    present = {"secret": OLD, "disabled": "yes"}
    assert plan(present, ["a"], Wish(lift=False)).disabled
    assert not plan(present, ["a"], Wish(lift=True)).disabled


def test_nodes_are_told_the_address_to_connect_to_and_not_the_one_that_is_listened_on() -> None:
    made = plan({}, ["a"], address=Found("::", "2001:db8::1", "x"))
    assert made.master["listen"] == "tcp://[::]:1515"
    assert made.nodes["a"]["connect"] == "tcp://[2001:db8::1]:1515"


@pytest.mark.parametrize(
    ("ack_listen", "kept"),
    [
        ("tcp://10.0.0.1:1516", None),
        ("tcp://10.0.0.1:2000", "tcp://192.0.2.10:2000"),
        ("tcp://10.0.0.1:1515", None),
    ],
)
def test_a_port_of_acknowledgements_that_somebody_chose_moves_along(ack_listen: str, kept: str | None) -> None:
    made = plan({"secret": OLD, "listen": "tcp://10.0.0.1:1515", "ack_listen": ack_listen}, ["a"])
    assert made.master["ack_listen"] == made.nodes["a"]["ack_connect"] == kept


def test_what_is_printed_for_a_manual_node_is_its_whole_file() -> None:
    text = values_text(plan({"secret": OLD}, ["a"]).nodes["a"])
    assert text == f"connect=tcp://192.0.2.10:1515\nnode_id=a\nnode_key={node_key(OLD, 'a').hex()}\n"


secrets = st.text("AB01", min_size=1, max_size=32)
presents = st.fixed_dictionaries(
    {},
    optional={
        "secret": secrets,
        "secret_previous": secrets,
        "disabled": st.sampled_from(["yes", "no"]),
        "listen": st.sampled_from(["tcp://192.0.2.10:1515", "tcp://10.0.0.1:99"]),
        "ack_listen": st.sampled_from(["tcp://192.0.2.10:1516", "tcp://10.0.0.1:2000"]),
        "per_node_keys": st.sampled_from(["yes", "no"]),
    },
)


@given(presents, st.lists(st.sampled_from("abc"), unique=True), st.builds(Wish, st.booleans(), st.booleans()))
def test_a_second_run_finds_everything_right_and_no_node_needs_another_secret(
    present: dict[str, str], nodes: list[str], wish: Wish
) -> None:
    first = plan(present, nodes, wish)
    text = after(first, present)
    second = make_plan(text, ADDRESS, 1515, nodes, PANEL, "X" * 32, Wish())
    assert after(second, text) == text
    assert second.nodes == first.nodes == files_of(text, nodes)
    assert text.get("disabled") == (None if nodes else "yes")
    # whoever has the secret of before is still understood, unless it was to be forgotten
    if "secret" in present:
        assert present["secret"] in (text["secret"], text.get("secret_previous"))
