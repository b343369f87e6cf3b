"""What the node's healthcheck says, for who reaches the node by `vmwatch-nodectl` alone."""

import shutil
import subprocess
import sys
from pathlib import Path

from vmwatch.shared.nodectl import HEALTH_LIMIT_S, Outcome
from vmwatch.shared.paths import Paths

HEALTHCHECK = "vmwatch-healthcheck"
LIMIT_S = 60.0
"""It has a shorter one of its own."""
NOT_FOUND = 127
MAX_CHARACTERS = 64 * 1024


def health(paths: Paths) -> Outcome:
    """Its exit code, and its answer as JSON in the text."""
    own = Path(sys.executable).with_name(HEALTHCHECK)
    program = str(own) if own.exists() else shutil.which(HEALTHCHECK)
    if program is None:
        return Outcome(False, f"{HEALTHCHECK} is not installed here", code=NOT_FOUND)
    command = [program, "node", "--json", "--timeout", str(HEALTH_LIMIT_S), "--prefix", str(paths.prefix)]
    try:
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return Outcome(False, f"{HEALTHCHECK} did not end within {LIMIT_S:g} s")
    return Outcome(ran.returncode == 0, ran.stdout.decode(errors="replace")[:MAX_CHARACTERS], code=ran.returncode)
