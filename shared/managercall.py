"""A call of a service manager's own command, such as `systemctl`: with a time limit, and no terminal to ask at."""

import os
import subprocess
from collections.abc import Mapping, Sequence

from vmwatch.shared.services import ServiceError


def call_manager(
    command: Sequence[str], told_as: str, limit_s: float, variables: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end, whatever its exit code. `told_as`: what an error calls it; `variables`: beside our own.

    Raises ServiceError if it does not end in time, or cannot be run.
    """
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
            env={**os.environ, **(variables or {})},
        )
    except subprocess.TimeoutExpired:
        raise ServiceError(f"{told_as} did not end within {limit_s:g} s") from None
    except OSError as error:
        raise ServiceError(f"{command[0]} cannot be run: {error.strerror}") from None
