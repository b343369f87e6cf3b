"""The pid file: says which process runs, and keeps a second one from starting."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from vmwatch.shared.errors import ConfigurationError, of_system


class PidFile:
    """Held while the program runs. The lock, not the number in it, says that it runs: a lock dies with its process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1

    def __enter__(self) -> "PidFile":
        """Raises ConfigurationError if another process holds it or it cannot be made, VmwatchError if not now."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(self._handle, 32).decode(errors="replace").strip()
            os.close(self._handle)
            raise ConfigurationError(f"{self._path}: already running as process {pid}") from None
        except OSError as error:
            raise of_system(error, f"{self._path}: cannot be written: {error.strerror}") from None
        with suppress(OSError):  # a full disk: the lock is what counts, and who may delete something has to run
            os.ftruncate(self._handle, 0)
            os.write(self._handle, b"%d\n" % os.getpid())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What did not end in order leaves the file behind, and is not taken for stopped on purpose."""
        if kind is None:
            with suppress(OSError):  # a file system that has become read-only
                self._path.unlink(missing_ok=True)
        os.close(self._handle)
