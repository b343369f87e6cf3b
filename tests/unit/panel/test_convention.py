"""The formats of answers, and how parameters are read."""

import xml.etree.ElementTree as ElementTree

import msgspec
import pytest

from vmwatch.panel.convention import (
    ApiError,
    Done,
    Form,
    Kind,
    Listing,
    Out,
    Params,
    SignedIn,
    missed,
    render,
    row_renderer,
)

HOSTILE = "<b>&\"'\n\x00\x1b[31m\ud7ff\ufffe"


def as_json(doc: dict[str, object], func: str) -> object:
    return msgspec.json.decode(render(doc, func, Out.JSON))


def test_success_has_the_form_of_the_convention() -> None:
    done = Done({"elid": "7"}).doc()
    assert as_json(done, "vm.stop") == {"doc": {"$func": "vm.stop", "ok": {}, "tparams": {"elid": {"$": "7"}}}}
    assert render(done, "vm.stop", Out.XML).decode().splitlines()[1] == (
        '<doc func="vm.stop"><ok/><tparams><elid>7</elid></tparams></doc>'
    )
    assert render(done, "vm.stop", Out.TEXT) == b"OK elid=7\n"
    assert render(Done().doc(), "vm.stop", Out.TEXT) == b"OK\n"


def test_an_error_has_the_form_of_the_convention() -> None:
    error = ApiError(Kind.MISSED, "vm", "no such VM", "7").doc()
    assert as_json(error, "vm") == {
        "doc": {
            "$func": "vm",
            "error": {
                "$type": "missed",
                "$object": "vm",
                "msg": {"$": "no such VM"},
                "param": [{"$name": "value", "$": "7"}],
            },
        }
    }
    assert b'<error type="missed" object="vm"><param name="value">7</param><msg>no such VM</msg></error>' in render(
        error, "vm", Out.XML
    )
    assert render(error, "vm", Out.TEXT) == b"ERROR missed(vm): no such VM\n"


def test_a_list_has_its_rows_and_numbers() -> None:
    listing = Listing([{"id": "7", "name": "a"}, {"id": "8", "name": "b"}], 12, 2, 2).doc()
    assert as_json(listing, "vm") == {
        "doc": {
            "$func": "vm",
            "elem": [{"id": {"$": "7"}, "name": {"$": "a"}}, {"id": {"$": "8"}, "name": {"$": "b"}}],
            "p_elems": {"$": "12"},
            "p_num": {"$": "2"},
            "p_cnt": {"$": "2"},
        }
    }
    assert b"<elem><id>7</id><name>a</name></elem><elem><id>8</id>" in render(listing, "vm", Out.XML)
    assert render(listing, "vm", Out.TEXT) == b"id=7 name=a\nid=8 name=b\n"


def test_a_form_and_a_session_have_theirs() -> None:
    assert as_json(Form({"address": ""}).doc(), "f") == {"doc": {"$func": "f", "address": {"$": ""}}}
    signed_in = as_json(SignedIn("abc", "admin").doc(), "auth")
    assert signed_in == {"doc": {"$func": "auth", "auth": {"$id": "abc", "$": "abc"}}}


@pytest.mark.parametrize("out", [Out.XML, Out.JSON, Out.TEXT])
def test_a_hostile_name_stays_one_value_in_every_format(out: Out) -> None:
    body = render(Listing([{"name": HOSTILE}], 1, 1, 50).doc(), HOSTILE, out).decode()
    if out is Out.XML:
        parsed = ElementTree.fromstring(body)
        assert [element.tag for element in parsed] == ["elem", "p_elems", "p_num", "p_cnt"]
        assert (parsed.findtext("elem/name") or "").startswith("<b>&\"'\n\N{REPLACEMENT CHARACTER}")
    elif out is Out.JSON:
        assert msgspec.json.decode(body)["doc"]["elem"][0]["name"]["$"] == HOSTILE
    else:
        assert body.count("\n") == 1
        assert "\\x0a\\x00\\x1b[31m" in body


@pytest.mark.parametrize("out", [Out.XML, Out.JSON, Out.TEXT])
def test_rows_sent_one_by_one_make_the_same_document(out: Out) -> None:
    rows = [{"id": "1", "name": HOSTILE}, {"id": "2", "name": "b"}]
    head, row, separator, tail = row_renderer(out)
    streamed = head.format(func="eventlog") + separator.join(map(row, rows)) + tail
    whole = render(Listing(rows, None, None, 2).doc(), "eventlog", out).decode()
    if out is Out.JSON:
        assert msgspec.json.decode(streamed)["doc"]["elem"] == msgspec.json.decode(whole)["doc"]["elem"]
    elif out is Out.XML:
        texts = [[element.text for element in found] for found in ElementTree.fromstring(streamed)]
        assert texts == [[element.text for element in found] for found in ElementTree.fromstring(whole)][:2]
    else:
        assert streamed == whole


@pytest.mark.parametrize("value", ["0", "1001", "-1", "1.5", "x", "९", "1" * 400])
def test_a_number_outside_its_limits_is_refused_by_name(value: str) -> None:
    with pytest.raises(ApiError, match=r"^p_cnt: a whole number from 1 to 1000 is allowed") as error:
        Params({"p_cnt": value}).whole("p_cnt", 1, 1000)
    assert (error.value.kind, error.value.object) == (Kind.VALUE, "p_cnt")
    assert len(error.value.value or "") <= 256


def test_what_is_missing_or_no_switch_is_refused_by_name() -> None:
    params = Params({"elid": " , ", "export": "yes", "sok": "on", "empty": ""})
    for read, name in (
        (lambda: params.required("empty"), "empty"),
        (lambda: params.elids, "elid"),
        (lambda: params.switch("export"), "export"),
        (lambda: params.sok, "sok"),
    ):
        with pytest.raises(ApiError) as error:
            read()
        assert error.value.object == name
    assert Params({"elid": "7, 8"}).elids == ["7", "8"]
    assert missed("vm", "x").kind is Kind.MISSED
