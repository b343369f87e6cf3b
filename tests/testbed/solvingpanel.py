"""vmwatch-panel with solvers, as a program: each runs a script that the test has put into the panel's prefix.

`python -m tests.testbed.solvingpanel --prefix FOLDER` runs `FOLDER/solve OBJECT` for some types of problems. What it
prints is the progress, and with exit code 0 the problem is solved.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.testbed.service import command
from tests.testbed.stack import Panel
from vmwatch.panel.functions import Panel as RunningPanel
from vmwatch.panel.main import main
from vmwatch.panel.problems import Kind, Problem
from vmwatch.panel.solvers import Result, Tell

ROOT = Path(__file__).parents[2]
PREFIX = "SOLVING_PREFIX"
SOLVED_HERE = (Kind.NODE_STOPPED, Kind.MASTER_STOPPED)
SHORT = Kind.INSTALL_FAILED
"""Of this type an attempt may take a second."""
SCRIPT = """#!/bin/sh
echo "looks at $1"
[ "$1" = chatty ] && seq 1000
touch "$0.began.$1"
while [ ! -e "$0.end.$1" ]; do kill -0 $PPID || exit 3; sleep 0.05; done
echo "has seen <b>enough</b>"
exit "$(cat "$0.end.$1")"
"""
"""Goes on until the file `solve.end.OBJECT` says with which code, or the panel is gone."""


class SolvingPanel(Panel):
    """A panel with solvers; `end` lets those about an object end."""

    def __init__(self, prefix: Path) -> None:
        super().__init__(prefix)
        self.script = prefix / "solve"
        self.script.write_text(SCRIPT)
        self.script.chmod(0o755)

    def launch(self) -> None:
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.testbed.solvingpanel", "--prefix", str(self.prefix)],
                cwd=ROOT,
                env=os.environ | {PREFIX: str(self.prefix)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def began(self, subject: str) -> bool:
        """Does the script work on this object, or did it?"""
        return Path(f"{self.script}.began.{subject}").exists()

    def end(self, subject: str, code: int = 0) -> None:
        """Those about this object end now, and later ones at once."""
        written = Path(f"{self.script}.new.{subject}")
        written.write_text(str(code))
        written.replace(f"{self.script}.end.{subject}")

    def vmwatch(self, *arguments: str, user: tuple[str, str]) -> "subprocess.Popen[str]":
        """The operator's command, running."""
        environment = os.environ | {"VMWATCH_URL": self.url, "VMWATCH_USER": user[0], "VMWATCH_PASSWORD": user[1]}
        return subprocess.Popen(
            [command("vmwatch"), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


async def solve(problem: Problem, tell: Tell) -> Result:
    """By the script. One that is cancelled is ended."""
    script = f"{os.environ[PREFIX]}/solve"
    process = await asyncio.create_subprocess_exec(script, problem.object, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            tell(line.decode())
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Result(code == 0, f"the script ended with {code}")


def equip(panel: RunningPanel) -> None:
    """The panel's solvers."""
    for kind in SOLVED_HERE:
        panel.solvers.add(kind, solve)
    panel.solvers.add(SHORT, solve, limit_s=1.0)


if __name__ == "__main__":
    sys.exit(main(equip=equip))
