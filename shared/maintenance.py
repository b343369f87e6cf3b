"""The mark of a service in maintenance: `var/run/NAME.maintenance`, a NAME=VALUE file that ends by itself."""

import time
from dataclasses import dataclass
from pathlib import Path

from vmwatch.shared import conffile
from vmwatch.shared.conffile import any_text, setting

LATEST_S = 2**53 - 1


def parse_until(text: str) -> float:
    """Seconds since 1970."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= LATEST_S:
        raise ValueError(f"{text!r} is not allowed; seconds since 1970 are")
    return value


@dataclass(frozen=True)
class Maintenance:
    """Until when (seconds since 1970) nothing is repaired and no problem is told, who said so, and why."""

    until: float = setting(parse_until)
    by: str = setting(any_text, "")
    reason: str = setting(any_text, "")


def read_maintenance(path: Path, now: float | None = None) -> Maintenance | None:
    """The mark, if there is one and it has not ended (`now`: seconds since 1970, by default the clock's).

    Raises ConfigurationError if the file cannot be read or understood: who cannot tell must not assume maintenance.
    """
    if not path.exists():
        return None
    found = conffile.load(path, Maintenance).settings
    return found if found.until > (time.time() if now is None else now) else None


def write_maintenance(path: Path, maintenance: Maintenance) -> None:
    """Put the mark there, atomically; `by` and `reason` on one line each."""
    values = {"until": f"{maintenance.until:.3f}", "by": maintenance.by, "reason": maintenance.reason}
    path.parent.mkdir(parents=True, exist_ok=True)
    conffile.write(path, {name: " ".join(value.split()) for name, value in values.items() if value})
