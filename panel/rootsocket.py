"""Our standard input and output, connected to a socket: `python -m vmwatch.panel.rootsocket /run/vmwatch/NAME.sock`."""

import os
import socket
import sys
from collections.abc import Sequence

CHUNK = 65536


def main(arguments: Sequence[str]) -> int:
    """One request goes there, all that comes back is printed; 1 if nobody is there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        try:
            server.connect(arguments[0])
            server.sendall(sys.stdin.buffer.read())
            server.shutdown(socket.SHUT_WR)
            while chunk := server.recv(CHUNK):
                os.write(1, chunk)
        except OSError as error:
            print(f"{arguments[0]}: {error.strerror}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
