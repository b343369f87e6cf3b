"""The folder of the internal sockets: private, short enough for a UNIX socket's path, and left clean."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.statussocket import MAX_PATH_BYTES

log = logging.getLogger(__name__)

_LONGEST_NAME_BYTES = 12
"""Names are short, since a UNIX socket's whole path is: then few prefixes need the temporary folder."""
_TEMPORARY_PREFIX = "vmwatch-master-"


class Channels:
    """Where supervisor process and workers meet: `var/run/vmwatch-master.ipc`, mode 0700.

    If that path is too long for a UNIX socket it is a symbolic link to a private folder of the temporary one, so
    that the next start finds, and removes, what a killed run has left.
    """

    def __init__(self, place: Path) -> None:
        """Removes what an earlier run left. Raises ConfigurationError if the folder cannot be made."""
        self._place = place
        try:
            self._remove()
            place.parent.mkdir(parents=True, exist_ok=True)
            if len(os.fsencode(place)) + 1 + _LONGEST_NAME_BYTES <= MAX_PATH_BYTES:
                place.mkdir(mode=0o700)
                self._folder = place
            else:
                self._folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX))
                place.symlink_to(self._folder)
                log.info("%s is too long for UNIX sockets: they are in %s", place, self._folder)
        except OSError as error:
            raise ConfigurationError(f"{place}: cannot be made: {error.strerror}") from None

    def endpoint(self, name: str) -> str:
        """ZeroMQ's address of the socket `name`, of at most 12 characters."""
        assert len(name) <= _LONGEST_NAME_BYTES
        return f"ipc://{self._folder / name}"

    def remove(self, name: str) -> None:
        """The socket `name` is not needed any more."""
        (self._folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder."""
        try:
            self._remove()
        except OSError as error:
            log.warning("%s: cannot be removed: %s", self._place, error.strerror)

    def _remove(self) -> None:
        if self._place.is_symlink():
            target = self._place.readlink()
            # Only what is evidently ours: a link that somebody else put here must not make us delete his folder.
            if target.parent == Path(tempfile.gettempdir()) and target.name.startswith(_TEMPORARY_PREFIX):
                shutil.rmtree(target, ignore_errors=True)
            self._place.unlink()
        elif self._place.is_dir():
            shutil.rmtree(self._place)
