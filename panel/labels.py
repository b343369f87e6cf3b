"""How times look in answers and pages, and how they are read."""

import re
from datetime import datetime

from vmwatch.panel.convention import Params, bad_value
from vmwatch.shared.logs import iso_time

_SECONDS = re.compile(r"\d{1,16}(\.\d{1,6})?")


def time_label(seconds: float) -> str:
    """ISO 8601 with offset; empty for 0 (never). A node's clock may say what no calendar holds: then the number."""
    if not seconds:
        return ""
    try:
        return iso_time(seconds)
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.3f}"


def time_param(params: Params, name: str) -> float | None:
    """Seconds since 1970 of a parameter in ISO 8601 (without an offset: this machine's time) or in seconds."""
    if not params.given(name):
        return None
    # an address turns the + of an offset into a space unless it was escaped
    text = params.get(name).strip().replace(" ", "+") if "T" in params.get(name) else params.get(name)
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise bad_value(name, "a time in ISO 8601 or seconds since 1970 is allowed", text) from None
