"""Durations as an operator types them: `90m`, `2h`, `1d12h`."""

import re

_UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?")
ALLOWED = "a time such as 2h, 90m or 1d12h is allowed"


def parse_duration(text: str) -> int:
    """Whole seconds; a number without a unit is seconds. Raises ValueError that says what is allowed."""
    if re.fullmatch(r"[0-9]{1,9}", text):
        return int(text)
    found = _DURATION.fullmatch(text)
    if not text.isascii() or not text or found is None:
        raise ValueError(f"{text!r}: {ALLOWED}")
    return sum(int(number) * unit for number, unit in zip(found.groups("0"), _UNITS_S.values(), strict=True))


def show_duration(seconds: float) -> str:
    """The two largest units: `1d12h`, `2h5m`, `40s`."""
    left, parts = max(0, int(seconds)), list[str]()
    for name, unit in _UNITS_S.items():
        count, left = divmod(left, unit)
        if count and len(parts) < 2:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"
