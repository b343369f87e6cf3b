"""What the panel has not been told yet: one word for each problem, on the disk until the panel has it."""

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from vmwatch.shared.conffile import write_atomically
from vmwatch.shared.ownfile import CAREFULLY, check_own

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class News:
    """A problem by type and object; `text` is empty where its cause is gone."""

    type: str
    object: str
    text: str = ""


class Spool:
    """The last word on each problem, oldest first, and which services are down. A file that is damaged begins anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.news: list[News] = []
        self.down: set[str] = set()
        try:
            kept = json.loads(_read_own(path))
            self.news = [News(str(one["type"]), str(one["object"]), str(one["text"])) for one in kept["news"]]
            self.down = {str(name) for name in kept["down"]}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("%s: cannot be read and begins anew: %s", path, error)

    def add(self, news: News) -> None:
        """Instead of an earlier word on the same problem."""
        self.news = [one for one in self.news if (one.type, one.object) != (news.type, news.object)] + [news]

    def told(self, news: News) -> None:
        """The panel has it."""
        self.news = [one for one in self.news if one is not news]

    def save(self) -> None:
        """A failure is logged: the panel is told all the same."""
        kept = {"news": [asdict(one) for one in self.news], "down": sorted(self.down)}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(kept) + "\n")
        except OSError as error:
            log.error("%s: cannot be written: %s", self._path, error)


def _read_own(path: Path) -> bytes:
    """What is in a file of this process's user; others may write to its folder. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | CAREFULLY)
    with os.fdopen(handle, "rb") as file:
        check_own(handle, (os.geteuid(),))
        return file.read()
