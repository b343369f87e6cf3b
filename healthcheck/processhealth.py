"""What a service's process says of its health, before anything is asked of it. A core without I/O."""

from vmwatch.healthcheck.facts import Facts, PidFileFacts, ProcessFacts
from vmwatch.healthcheck.figures import Bound, Figure
from vmwatch.healthcheck.levels import Finding, Level

START_MOST_S = 30.0
"""A process younger than this may have had no time yet to open its status socket."""
WRITTEN_SLACK_S = 2.0
"""A pid file is written after its process began; kernel and file system round their times differently."""
SUSPENDED = ("stopped", "tracing-stop")
ENDED = ("zombie", "dead")
_MODULES = {"vmwatch-node": "vmwatch.node.main", "vmwatch-master": "vmwatch.supervisor.main"}
MIB = 1024 * 1024


def doubt(program: str, pid_file: PidFileFacts, process: ProcessFacts) -> str:
    """Why the process with the pid file's number is not the service; empty if it is.

    Numbers are used again. Who holds the file open wrote it; where that may not be seen, the start time tells: the
    service began before it wrote the file. (The times alone could be wrong after the clock was set.)
    """
    if process.command and not names_program(program, process.command):
        return f"is another program now ({' '.join(process.command)[:60]})"
    if process.holds_pid_file is not None:
        holds = process.holds_pid_file or process.state in ENDED
        return "" if holds else "does not hold the pid file: it is another one"
    if process.started > pid_file.written + WRITTEN_SLACK_S:
        return "began after the pid file was written: it is another one"
    return ""


def names_program(program: str, command: tuple[str, ...]) -> bool:
    """Whether a command line is this program's, started by its name or as a module."""
    return any(part.rpartition("/")[2] == program or part == _MODULES.get(program) for part in command[:4])


def process_findings(facts: Facts, process: ProcessFacts) -> list[Finding]:
    """What is not well with a service's process; `process` is the service's own."""
    found = []
    if process.state in SUSPENDED:
        found.append(
            Finding("suspended", Level.CRITICAL, f"process {process.pid} is suspended (SIGSTOP); SIGCONT lets it go on")
        )
    for child in process.children:
        what = "is suspended (SIGSTOP)" if child.state in SUSPENDED else "has ended and nobody takes notice (zombie)"
        found.append(Finding("child", Level.WARNING, f"child process {child.pid} {what}"))
    if facts.pid_file is None:
        text = f"it runs as process {process.pid}, and its pid file is missing"
        found.append(Finding("pid_file", Level.WARNING, text))
    elif facts.pid_file.pid != process.pid:
        text = f"it runs as process {process.pid}, and its pid file says {facts.pid_file.pid or 'nothing'}"
        found.append(Finding("pid_file", Level.WARNING, text))
    return found


def _uptime(facts: Facts) -> float | None:
    return facts.process.age_s if facts.process else None


def _memory(facts: Facts) -> float | None:
    return facts.process.memory_bytes if facts.process else None


def _descriptors(facts: Facts) -> float | None:
    process = facts.process
    if process is None or process.descriptors is None or not process.descriptors_limit:
        return None
    return round(100 * process.descriptors / process.descriptors_limit, 1)


def process_figures(warning_mib: int, critical_mib: int) -> list[Figure]:
    """Every service has these; how much memory is too much is its own."""
    return [
        Figure("uptime", "s", "age of its process", _uptime),
        Figure(
            "memory",
            "B",
            "resident memory, its child processes included",
            _memory,
            Bound(f"~:{warning_mib * MIB}"),
            Bound(f"~:{critical_mib * MIB}"),
        ),
        Figure(
            "descriptors", "%", "open files, of those that it may have", _descriptors, Bound("~:80"), Bound("~:95")
        ),
    ]
