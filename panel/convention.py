"""The calling convention (design 03): what a call brings, and how answers look as JSON, XML and text.

An answer is one tree in the notation of its JSON: `$name` is an attribute, `$` the text, everything else a child.
The other formats follow from it.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import msgspec

from vmwatch.shared.errors import VmwatchError

Doc = dict[str, Any]
Row = Mapping[str, str]


class Out(StrEnum):
    """The format of an answer; PAGE is what a call without `out` gets."""

    JSON = "json"
    XML = "xml"
    TEXT = "text"
    PAGE = ""


MEDIA_TYPES = {
    Out.JSON: "application/json",
    Out.XML: "application/xml; charset=utf-8",
    Out.TEXT: "text/plain; charset=utf-8",
}


class Kind(StrEnum):
    """Types of errors."""

    AUTH = "auth"
    ACCESS = "access"
    VALUE = "value"
    EXISTS = "exists"
    MISSED = "missed"
    XML = "xml"


class ApiError(VmwatchError):
    """A call that is answered with `doc.error`: HTTP 200, as the original does. `object`: the field or thing."""

    def __init__(self, kind: Kind, object_: str, text: str, value: str | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.object = object_
        self.value = value

    def doc(self) -> Doc:
        error: Doc = {"$type": self.kind.value, "$object": self.object}
        if self.value is not None:
            error["param"] = [{"$name": "value", "$": self.value}]
        error["msg"] = {"$": str(self)}
        return {"error": error}


class TransportError(VmwatchError):
    """A fault of the transport, answered with a 4xx or 5xx status: 401, 413, 429, 500, 503 and their like."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = dict(headers or {})

    def doc(self) -> Doc:
        kind = Kind.AUTH if self.status in (401, 429) else Kind.VALUE
        return {"error": {"$type": kind.value, "$object": "http", "msg": {"$": str(self)}}}


def bad_value(name: str, text: str, value: str | None = None) -> ApiError:
    """A parameter is wrong: its name and what is allowed."""
    return ApiError(Kind.VALUE, name, f"{name}: {text}", None if value is None else value[:256])


def missed(thing: str, value: str) -> ApiError:
    """There is no such thing."""
    return ApiError(Kind.MISSED, thing, f"there is no {thing} {value[:256]!r}", value[:256])


class Params:
    """A call's parameters, each read with its own check."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def get(self, name: str, default: str = "") -> str:
        return self._values.get(name, default)

    def __contains__(self, name: str) -> bool:
        """Is it there, if only as an empty text?"""
        return name in self._values

    def given(self, name: str) -> bool:
        return bool(self._values.get(name))

    def required(self, name: str) -> str:
        """Raises ApiError if it is missing or empty."""
        if not self.given(name):
            raise bad_value(name, "is missing and required")
        return self._values[name]

    def matching(self, name: str, pattern: re.Pattern[str], allowed: str, *, required: bool = False) -> str:
        """A text that `pattern` describes in full; empty if it is not given."""
        value = self.required(name) if required else self.get(name)
        if value and not pattern.fullmatch(value):
            raise bad_value(name, f"{allowed} is allowed", value)
        return value

    def one_of(self, name: str, allowed: Iterable[str]) -> str:
        """One of these words; empty if it is not given."""
        words = list(allowed)
        value = self.get(name)
        if value and value not in words:
            raise bad_value(name, f"one of {', '.join(words)} is allowed", value)
        return value

    def whole(self, name: str, least: int, most: int) -> int | None:
        """A whole number; None if it is not given."""
        if not self.given(name):
            return None
        value = self._values[name]
        if not value.isascii() or not value.isdigit() or not least <= int(value[:20]) <= most:
            raise bad_value(name, f"a whole number from {least} to {most} is allowed", value)
        return int(value)

    def switch(self, name: str) -> bool:
        """`on`, or `off` as if it were not given."""
        return self.one_of(name, ("on", "off")) == "on"

    @property
    def sok(self) -> bool:
        """Perform it, rather than show the form."""
        return self.one_of("sok", ("ok",)) == "ok"

    @property
    def elids(self) -> list[str]:
        """The rows that the call is about. Raises ApiError if there is none."""
        found = [part.strip() for part in self.required("elid").split(",") if part.strip()]
        if not found:
            raise bad_value("elid", "is missing and required")
        return found


@dataclass(frozen=True)
class Done:
    """It was done; `tparams` say to what."""

    tparams: Row = field(default_factory=dict)

    def doc(self) -> Doc:
        return {"ok": {}, "tparams": _values(self.tparams)} if self.tparams else {"ok": {}}


@dataclass(frozen=True)
class Form:
    """The values that a call with `sok=ok` would change."""

    values: Row

    def doc(self) -> Doc:
        return _values(self.values)


@dataclass(frozen=True)
class Listing:
    """Rows. `total`: how many there are on all pages, None where that was not asked; `page` from 1, `size` a page's."""

    rows: list[dict[str, str]]
    total: int | None
    page: int | None
    size: int

    def doc(self) -> Doc:
        doc: Doc = {"elem": [_values(row) for row in self.rows]}
        numbers = {"p_elems": self.total, "p_num": self.page, "p_cnt": self.size}
        return doc | {name: {"$": str(number)} for name, number in numbers.items() if number is not None}


@dataclass(frozen=True)
class SignedIn:
    """The answer to `auth`."""

    session: str
    account: str

    def doc(self) -> Doc:
        return {"auth": {"$id": self.session, "$": self.session}}


Answer = Done | Form | Listing | SignedIn


def _values(row: Row) -> Doc:
    return {name: {"$": value} for name, value in row.items()}


def render(doc: Doc, func: str, out: Out) -> bytes:
    """The answer's body; PAGE is not rendered here."""
    named = {"$func": func} | doc
    if out is Out.XML:
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{to_xml("doc", named)}\n'.encode()
    if out is Out.TEXT:
        return to_text(doc).encode()
    return msgspec.json.encode({"doc": named})


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped; a VM's name may hold it."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def to_xml(tag: str, node: Any) -> str:  # noqa: ANN401 - a tree of plain values
    """An element, or one for each item of a list."""
    if isinstance(node, list):
        return "".join(to_xml(tag, item) for item in node)
    attributes = "".join(
        f" {name[1:]}={quoteattr(_xml_text(value))}"
        for name, value in node.items()
        if name.startswith("$") and name != "$"
    )
    text = escape(_xml_text(node.get("$", "")))
    children = "".join(to_xml(name, child) for name, child in node.items() if not name.startswith("$"))
    inner = text + children
    return f"<{tag}{attributes}>{inner}</{tag}>" if inner else f"<{tag}{attributes}/>"


def _xml_text(value: object) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", str(value))


def to_text(doc: Doc) -> str:
    """One `key=value key=value` line per row; a control character is written as `\\x0a`, so a row stays one line."""
    if "error" in doc:
        error = doc["error"]
        return f"ERROR {error['$type']}({error['$object']}): {_line(error['msg']['$'])}\n"
    if "elem" in doc:
        return "".join(text_row({name: cell["$"] for name, cell in row.items()}) for row in doc["elem"])
    if "auth" in doc:
        return text_row({"auth": doc["auth"]["$id"]})
    values = doc.get("tparams", doc)
    fields = {name: cell["$"] for name, cell in values.items() if "$" in cell}
    return ("OK " if "ok" in doc and fields else "OK\n" if "ok" in doc else "") + (text_row(fields) if fields else "")


def text_row(row: Row) -> str:
    return " ".join(f"{name}={_line(value)}" for name, value in row.items()) + "\n"


def _line(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def row_renderer(out: Out) -> tuple[str, Callable[[Row], str], str, str]:
    """(head, one row, separator, tail) of a list that is sent row by row; `{func}` in the head is filled in later."""
    if out is Out.XML:
        return '<?xml version="1.0" encoding="UTF-8"?>\n<doc func="{func}">', _xml_row, "\n", "</doc>\n"
    if out is Out.TEXT:
        return "", text_row, "", ""
    return '{{"doc":{{"$func":"{func}","elem":[', _json_row, ",\n", "]}}\n"


def _xml_row(row: Row) -> str:
    return to_xml("elem", _values(row))


def _json_row(row: Row) -> str:
    return msgspec.json.encode(_values(row)).decode()
