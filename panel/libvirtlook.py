"""`python -m vmwatch.panel.libvirtlook URI`: does this libvirt answer? A process, as a call of libvirt can hang."""

import os
import re
import sys

import libvirt


def main(arguments: list[str]) -> int:
    """0 if it answers; else 1, and one line says why."""
    os.environ.pop("LIBVIRT_DEFAULT_URI", None)
    libvirt.registerErrorHandler(lambda *_: None, None)
    try:
        connection = libvirt.openReadOnly(arguments[1])
        connection.getLibVersion()
        connection.numOfDomains()
    except libvirt.libvirtError as error:
        print(re.sub(r"\s+", " ", str(error)))
        return 1
    return 0


if __name__ == "__main__":
    # The connection's threads are not waited for.
    code = main(sys.argv)
    sys.stdout.flush()
    os._exit(code)
