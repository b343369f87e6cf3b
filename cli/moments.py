"""Times as an operator types them."""

import re
import time
from datetime import datetime

from vmwatch.cli.client import PanelError

_AGO = re.compile(r"(\d{1,9})([smhd])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SECONDS = re.compile(r"\d{9,16}(\.\d{1,6})?")
ALLOWED = "a time such as 2026-03-01T12:00, or how long ago: 90s, 15m, 2h, 7d"


def moment(option: str, text: str) -> str:
    """Seconds since 1970, as the panel reads them; empty for an empty text. Without an offset: this machine's time.

    Raises PanelError that names the option.
    """
    text = text.strip()
    if not text or _SECONDS.fullmatch(text):
        return text
    if found := _AGO.fullmatch(text):
        return f"{max(0.0, time.time() - int(found[1]) * _UNITS_S[found[2]]):.3f}"
    try:
        seconds = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise PanelError(f"{option} {text!r}: {ALLOWED} is allowed") from None
    if seconds < 0:
        raise PanelError(f"{option} {text!r}: a time since 1970 is allowed")
    return f"{seconds:.3f}"
