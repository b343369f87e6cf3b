"""The tree of errors, split by what the caller does about them."""

import errno

PASSING = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE))
"""What the system refuses for a time: a full or read-only disk, too many open files."""


class VmwatchError(Exception):
    """Base of all errors that vmwatch raises on purpose. The text is written for the operator."""


class ConfigurationError(VmwatchError):
    """A configuration is wrong: say it, start nothing, exit with 78."""


class MessageError(VmwatchError):
    """A frame or message breaks the wire protocol: count it and drop it; `reason` is the counter's name."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class StoreError(VmwatchError):
    """A database cannot be used (newer schema, damaged, no right): say it and stop; never delete it."""


def of_system(error: OSError, text: str) -> VmwatchError:
    """Why a program cannot start, to be raised. What passes is no wrong configuration: who started it tries again."""
    return VmwatchError(text) if error.errno in PASSING else ConfigurationError(text)
