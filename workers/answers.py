"""What a panel's answer means where it is not the one hoped for: pure functions (design 01, *What a fault does*)."""

import email.utils
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from vmwatch.shared.errors import MessageError
from vmwatch.shared.report import Verdict, decode_answer
from vmwatch.workers.client import PanelFault
from vmwatch.workers.transport import Reply

REPORT = "vmwatch.report"
WAIT_MOST_S = 300.0
"""A panel may ask to wait; one that asks for more is asked again after so long."""
_TEXT_MOST = 300


class SessionOver(PanelFault):
    """The panel does not take the session, or the password: HTTP 401, or an `auth` error."""


@dataclass(frozen=True)
class DocError:
    """`doc.error` of the calling convention (design 03): its type, its object, the text, and the value if named."""

    type: str
    object: str
    text: str
    value: str

    @property
    def sentence(self) -> str:
        return f"the panel says {self.type} {self.object}: {self.text}"


def fault_of_status(reply: Reply) -> PanelFault | None:
    """The fault that an HTTP status alone is; None for 200."""
    status = reply.status
    if status == 200:
        return None
    text = f"HTTP {status}{_said(reply)}"
    if status == 401:
        return SessionOver(text, needs_person=True, blameless=True)
    if status == 413:
        return PanelFault(f"{text}: too large", too_large=True)
    if status == 429:
        return PanelFault(text, wait_s=retry_after_s(reply), blameless=True)
    if status == 503:
        return PanelFault(text, wait_s=retry_after_s(reply))
    if 300 <= status < 400:
        where = reply.headers.get("location", "nowhere")[:_TEXT_MOST]
        return PanelFault(f"{text}: a redirect to {where!r} is not followed; correct panel_url", needs_person=True)
    return PanelFault(text, needs_person=400 <= status < 500)


def document(reply: Reply) -> dict[str, Any]:
    """The `doc` of an answer that says no error. Raises SessionOver, DocFault or another PanelFault for all else."""
    fault = fault_of_status(reply)
    if fault is not None:
        raise fault
    doc = _doc(reply.body)
    if doc is None:
        raise PanelFault(f"a page that is not its answer{_kind(reply)}; correct panel_url", needs_person=True)
    error = error_of(doc)
    if error is None:
        return doc
    if error.type == "auth":
        raise SessionOver(error.sentence, needs_person=True, blameless=True)
    raise DocFault(error)


def reported(reply: Reply) -> list[Verdict]:
    """The verdicts of an answer to a report. Raises as `document` does, and PanelFault for one that gives none."""
    document(reply)
    try:
        return decode_answer(reply.body)
    except MessageError as error:
        raise PanelFault(f"its answer to {REPORT} is not understood: {error}", needs_person=True) from None


class DocFault(PanelFault):
    """The panel answered with `doc.error` of another type than `auth`."""

    def __init__(self, error: DocError) -> None:
        super().__init__(error.sentence, needs_person=error.type in ("access", "missed"))
        self.error = error

    def denies(self, function: str) -> bool:
        """The panel says explicitly that it does not know `function`: type `missed`, and either the object is `func`
        and no other value than this function's name is given, or the object is this function's name.

        Nothing else is taken for it: no 404, no HTML page, no other error. A false yes would lose inventories.
        """
        error = self.error
        if error.type != "missed":
            return False
        return error.object == function or (error.object == "func" and error.value in ("", function))


def error_of(doc: dict[str, Any]) -> DocError | None:
    """The document's error, if it has one."""
    error = doc.get("error")
    if error is None:
        return None
    if not isinstance(error, dict):
        error = {}
    params = error.get("param", [])
    params = params if isinstance(params, list) else [params]  # one element may come as an object
    values = [_text(param) for param in params if isinstance(param, dict) and param.get("$name") == "value"]
    return DocError(
        type=_text(error.get("$type")),
        object=_text(error.get("$object")),
        text=_text(error.get("msg")),
        value=values[0] if values else "",
    )


def retry_after_s(reply: Reply) -> float:
    """Seconds of `Retry-After` (RFC 9110, 10.2.3: a number, or a date); 0 without a sensible one."""
    text = reply.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(WAIT_MOST_S, float(text[:9]))
    try:
        at = email.utils.parsedate_to_datetime(text)
        return min(WAIT_MOST_S, max(0.0, at.timestamp() - time.time()))
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _doc(body: bytes) -> dict[str, Any] | None:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    doc = answer.get("doc") if isinstance(answer, dict) else None
    return doc if isinstance(doc, dict) else None


def _said(reply: Reply) -> str:
    """What the panel says beside an HTTP status, if it is our kind of panel that says it."""
    doc = _doc(reply.body)
    error = error_of(doc) if doc is not None else None
    return f" ({error.text})" if error is not None and error.text else ""


def _kind(reply: Reply) -> str:
    kind = reply.headers.get("content-type", "")[:_TEXT_MOST]
    return f" ({kind})" if kind else ""


def _text(value: object) -> str:
    """A text of the convention: plain, or as `{"$": "…"}`; without line breaks, and not endless."""
    if isinstance(value, dict):
        value = value.get("$", "")
    return " ".join(str("" if value is None else value).split())[:_TEXT_MOST]
