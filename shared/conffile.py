"""NAME=VALUE files (design 04, *Files*): read, checked and written in one place.

What a file may contain is the fields of a frozen dataclass made with `setting`; `load` reads a file into it.
"""

import dataclasses
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from vmwatch.shared.errors import ConfigurationError

_S = TypeVar("_S")

FILE_MODE = 0o600
"""Configuration files hold secrets: nobody but their owner reads them."""


def setting(parse: Callable[[str], Any], default: Any = dataclasses.MISSING, *, effective: bool = True) -> Any:  # noqa: ANN401
    """A field that a file may set; without `default` it is required.

    `parse` turns a value's text into the field's value and raises ValueError that says what is allowed.
    `effective=False` marks a name that is known and has no effect yet: setting it is a warning.
    """
    return dataclasses.field(default=default, metadata={"parse": parse, "effective": effective})


@dataclasses.dataclass(frozen=True)
class Loaded(Generic[_S]):
    """A file's settings, and what the operator should know about the file."""

    settings: _S
    warnings: list[str]


def load(path: Path, kind: type[_S]) -> Loaded[_S]:
    """Read `path` into a `kind` (a dataclass of `setting` fields).

    Raises ConfigurationError that names file, line, name and what is allowed; all mistakes at once, one a line.
    """
    loaded = parse(path, read_text(path), kind)
    return Loaded(loaded.settings, mode_warnings(path) + loaded.warnings)


def parse(path: Path, text: str, kind: type[_S]) -> Loaded[_S]:
    """As `load`, of a text that is, or shall be, in `path`."""
    warnings: list[str] = []
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    mistakes: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{path}:{number}"
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        name, value = name.strip(), value.strip()
        lines.setdefault(name, number)
        if not equals:
            mistakes.append(f"{where}: not NAME=VALUE")
        elif name in values:
            mistakes.append(f"{where}: {name}: is set a second time; one line per name is allowed")
        elif name not in fields:
            warnings.append(f"{where}: unknown name {name!r} is ignored")
        else:
            if not fields[name].metadata["effective"]:
                warnings.append(f"{where}: {name} is not effective yet in this version")
            try:
                values[name] = fields[name].metadata["parse"](value)
            except ValueError as error:
                mistakes.append(f"{where}: {name}: {error}")
                values[name] = None
    mistakes += [
        f"{path}: {name}: is missing and required"
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING
    ]
    try:
        if not mistakes:
            return Loaded(kind(**values), warnings)
    except ValueError as error:  # what one name allows may depend on another: checked by the dataclass
        name = str(error).partition(":")[0]
        mistakes.append(f"{path}:{lines[name]}: {error}" if name in lines else f"{path}: {error}")
    # A name that is unknown may be the one that is missing, misspelt.
    raise ConfigurationError("\n".join(mistakes + [f"warning: {text}" for text in warnings]))


def read_text(path: Path) -> str:
    """The file's text; raises ConfigurationError that says why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"{path}:{line}: not UTF-8 text") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None


def mode_warnings(path: Path) -> list[str]:
    """A warning if others than the owner may read the file."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return [f"{path}: mode {mode:04o} lets others read or change its secrets; mend it with: chmod 0600 {path}"]
    return []


def write(path: Path, values: Mapping[str, str]) -> None:
    """Write a NAME=VALUE file atomically: new file, fsync, rename, fsync of the folder."""
    write_atomically(path, "".join(f"{name}={value}\n" for name, value in values.items()))


def write_atomically(path: Path, text: str, mode: int = FILE_MODE, owner: tuple[int, int] | None = None) -> None:
    """Put `text` in place of `path` so that a crash leaves the old file or the new one, never a part.

    `owner`: (user, group) to give it to, where root writes it for somebody else.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def yes_or_no(text: str) -> bool:
    """`yes` or `no`."""
    if text not in ("yes", "no"):
        raise ValueError(f"{text!r} is not allowed; yes or no is")
    return text == "yes"


def one_of(*words: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is not allowed; one of {', '.join(words)} is")
        return text

    return parse


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number from `least` to `most`."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text[:20]) <= most:
            raise ValueError(f"{text!r} is not allowed; a whole number from {least} to {most} is")
        return int(text)

    return parse


def duration_s(least: float, most: float) -> Callable[[str], float]:
    """Seconds, with or without a fraction."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise ValueError(f"{text!r} is not allowed; seconds from {least:g} to {most:g} are")
        return value

    return parse


def any_text(text: str) -> str:
    """Any text that is not empty."""
    if not text:
        raise ValueError("is empty; some text is required")
    return text
