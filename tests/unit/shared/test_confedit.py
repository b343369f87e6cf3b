"""Files that two write: what is set changes, and every other line stays as its author left it."""

import dataclasses
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vmwatch.shared import conffile
from vmwatch.shared.confedit import edited, valid_values, values_of
from vmwatch.shared.settings import NodeSettings

CHANGES = {"connect": "tcp://10.0.0.1:1515", "node_id": "a", "node_key": "0" * 64, "secret": None, "ack_connect": None}


def test_comments_unknown_names_and_right_values_stay_in_their_lines() -> None:
    text = "# ours\n\nlibvirt_uri = qemu:///system\nsecret=OLD\nfuture=1\nconnect=tcp://1.2.3.4:5\n"
    made = edited(text, NodeSettings, CHANGES)
    assert made.text == (
        "# ours\n\nlibvirt_uri = qemu:///system\nfuture=1\nconnect=tcp://10.0.0.1:1515\nnode_id=a\n"
        f"node_key={'0' * 64}\n"
    )
    assert made.dropped == ()


def test_a_value_that_is_right_already_is_not_written_in_another_way() -> None:
    text = f"connect = tcp://10.0.0.1:1515 \nnode_id=a\nnode_key={'0' * 64}"
    assert edited(text, NodeSettings, CHANGES).text == f"{text}\n"


def test_a_wrong_line_gets_the_last_good_value_or_goes_and_is_told() -> None:
    text = "stats_interval=often\noutbox_max_mb=lots\nnonsense\nlog_level=info\nlog_level=debug\n"
    made = edited(text, NodeSettings, CHANGES, {"stats_interval": "60"})
    assert values_of(made.text)["stats_interval"] == "60"
    assert "outbox_max_mb" not in made.text
    assert made.text.count("log_level") == 1
    assert [line.partition(":")[0] for line in made.dropped] == [
        "stats_interval",
        "outbox_max_mb",
        "line 3",
        "log_level",
    ]


def test_only_what_is_allowed_counts_as_a_valid_value() -> None:
    assert valid_values("log_level=loud\nnode_id=a\nfuture=1\nnode_id=b\n", NodeSettings) == {"node_id": "a"}


names = [field.name for field in dataclasses.fields(NodeSettings)]
lines = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=30),
    st.builds("{}={}".format, st.sampled_from([*names, "future"]), st.sampled_from(["", "1", "yes", "a b", "info"])),
)


@given(st.lists(lines, max_size=12).map("\n".join))
def test_whatever_a_file_says_it_is_right_afterwards_and_a_second_time_nothing_changes(text: str) -> None:
    made = edited(text, NodeSettings, CHANGES)
    settings = conffile.parse(Path("node.conf"), made.text, NodeSettings).settings
    assert (settings.node_id, settings.secret) == ("a", "")
    again = edited(made.text, NodeSettings, CHANGES)
    assert (again.text, again.dropped) == (made.text, ())
    for name, value in valid_values(text, NodeSettings).items():
        if name not in CHANGES:
            assert values_of(made.text)[name] == value
