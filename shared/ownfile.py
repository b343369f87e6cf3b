"""A program's own file in a folder where others may write too."""

import errno
import os
import stat
from collections.abc import Container

CAREFULLY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""To open it with: no link is followed, and no FIFO waited for."""


def check_own(handle: int, owners: Container[int]) -> os.stat_result:
    """What it is, looked at after it was opened, so that it cannot be exchanged in between. `owners`: user ids.

    Raises PermissionError for what is no file, has a second name, or is somebody else's.
    """
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_uid not in owners:
        raise PermissionError(errno.EPERM, "it is no file of its own, or somebody else's")
    return found
