"""Exit codes of all vmwatch programs (design 04, *Commands*; the numbers are those of sysexits.h)."""

from enum import IntEnum


class Exit(IntEnum):
    """What a program says to its service manager when it ends."""

    OK = 0
    """Stopped in order, or disabled by its configuration."""
    FAILURE = 1
    """The operator's command could not do what was asked."""
    USAGE = 64
    """The command line was wrong."""
    LIBVIRT_LOST = 69
    """An established connection to libvirtd was lost; start the agent again."""
    DEFECT = 70
    """A defect in vmwatch; the log has the traceback."""
    CONFIGURATION = 78
    """A configuration file was wrong; nothing was started."""
