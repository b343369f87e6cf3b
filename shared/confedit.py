"""NAME=VALUE files that two write: what configuring sets changes, and every other line stays as its author left it.

No I/O: from a text to a text.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Edited:
    """`dropped`: lines that were wrong and are not in `text` any more, each with why."""

    text: str
    dropped: tuple[str, ...] = ()


def values_of(text: str) -> dict[str, str]:
    """What a file's text sets, whether it is allowed or not; the first line of a name counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name.strip(), value.strip())
    return found


def valid_values(text: str, kind: type) -> dict[str, str]:
    """Of what a text sets, the names that there are, with a value that is allowed for each alone."""
    known = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in values_of(text).items() if name in known and not _wrong(name, value, kind)}


def edited(text: str, kind: type, changes: Mapping[str, str | None], good: Mapping[str, str] | None = None) -> Edited:
    """The text with `changes` made: a value to set, None to take a name out.

    Comments, unknown names and right values stay in their lines. A line that is wrong gets the value that it had in
    the last `good` file, or goes.
    """
    lines: list[str] = []
    dropped: list[str] = []
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        name, equals, value = line.partition("=")
        name, value = name.strip(), value.strip()
        if not line.strip() or line.startswith("#"):
            lines.append(line)
        elif not equals or not name:
            dropped.append(f"line {number}: not NAME=VALUE")  # not repeated: it may hold a secret
        elif name in seen:
            if name not in changes:
                dropped.append(f"{name}: was set a second time")
        else:
            seen.add(name)
            wanted = changes.get(name) if name in changes else value
            if name not in changes and (wrong := _wrong(name, value, kind)):
                wanted = (good or {}).get(name)
                dropped.append(f"{name}: {wrong}" + ("; it is what it was" if wanted is not None else ""))
            if wanted is not None:
                lines.append(line if wanted == value else f"{name}={wanted}")
    lines += [f"{name}={value}" for name, value in changes.items() if value is not None and name not in seen]
    return Edited("".join(f"{line}\n" for line in lines), tuple(dropped))


def _wrong(name: str, value: str, kind: type) -> str:
    """What is wrong with a value; empty for one that is right, and for a name that is not known."""
    for field in dataclasses.fields(kind):
        if field.name == name:
            try:
                field.metadata["parse"](value)
            except ValueError as error:
                return str(error)
    return ""
