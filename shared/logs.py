"""Logging of all programs: one file each that survives logrotate, as text or as JSON lines."""

import json
import logging
import logging.handlers
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from vmwatch.shared.errors import of_system

FORMATS = ("text", "json")
STANDARD_ERROR = "-"


def iso_time(seconds: float) -> str:
    """Wall-clock seconds since 1970 as ISO 8601 with offset, to the millisecond."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


class TextFormatter(logging.Formatter):
    """`time level logger: message`, each line break of a message indented so that a grep finds whole entries."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage().replace("\n", "\n    ")
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return f"{iso_time(record.created)} {record.levelname.lower()} {record.name}[{record.process}]: {text}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": iso_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


class LogFile(logging.handlers.WatchedFileHandler):
    """Opened anew when logrotate has moved it away. A line that cannot be written is lost, and nothing else: logging's
    own care for errors ends where a file is opened."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            # What is left in its buffer found no room; to write that first would fail for ever.
            stream, self.stream = self.stream, None  # as in its own `close`
            if stream is not None:
                with suppress(OSError):
                    stream.close()
            self.handleError(record)


def set_up(log_file: str, level: str, log_format: str = "text") -> None:
    """Send the root logger to `log_file` (`-`: standard error), and to the terminal as well if there is one.

    Raises ConfigurationError if the file cannot be opened, VmwatchError if it cannot be opened now.
    """
    formatter = JsonFormatter() if log_format == "json" else TextFormatter()
    handlers: list[logging.Handler] = []
    if log_file != STANDARD_ERROR:
        try:
            Path(log_file).parent.mkdir(parents=True, exist_ok=True)
            handlers.append(LogFile(log_file, encoding="utf-8"))
        except OSError as error:
            raise of_system(error, f"{log_file}: log cannot be written: {error.strerror}") from None
    if log_file == STANDARD_ERROR or sys.stderr.isatty():
        handlers.append(logging.StreamHandler(sys.stderr))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(level.upper())


class RateLimit:
    """Lets one log entry through per `every_s`, and says how many it held back."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next: float | None = None
        self._held = 0

    def allows(self, now: float) -> int | None:
        """None: hold this one back. Else the number held back since the last one that was let through."""
        if self._next is not None and now < self._next:
            self._held += 1
            return None
        self._next = now + self._every_s
        held, self._held = self._held, 0
        return held
