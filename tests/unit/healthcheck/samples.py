"""Facts as a service that is well gives them, for tests that change one thing."""

from typing import Any

from vmwatch.healthcheck.facts import Answer, Config, ConfigFacts, Facts, PidFileFacts, ProcessFacts

NOW = 1_763_900_000.0
PID = 4711


def process(program: str = "vmwatch-node", **changes: Any) -> ProcessFacts:  # noqa: ANN401
    values: dict[str, Any] = {
        "pid": PID,
        "command": ("/usr/bin/python3", f"/opt/bin/{program}"),
        "started": NOW - 1000,
        "state": "sleeping",
        "age_s": 1000.0,
        "holds_pid_file": True,
        "memory_bytes": 40_000_000,
        "descriptors": 20,
        "descriptors_limit": 1024,
    }
    return ProcessFacts(**(values | changes))


def node_status() -> dict[str, Any]:
    return {
        "program": "vmwatch-node",
        "version": "0.1.0",
        "phase": "running",
        "pid": PID,
        "uptime_s": 999.0,
        "turn_age_s": 0.4,
        "libvirt": {
            "uri": "qemu:///system",
            "connected": True,
            "answers": True,
            "events": 7,
            "open_failures": 0,
            "opening_hung_s": 0.0,
            "tick_age_s": 0.6,
            "last_error": "",
        },
        "outbox": {"depth": 0, "oldest_s": 0.0, "dropped": {}, "trouble": "", "drop_age_s": None},
        "master": {
            "address": "tcp://192.0.2.1:1515",
            "diagnosis": "",
            "diagnosis_kind": "",
            "heard_age_s": 0.5,
            "seen_age_s": 4.0,
            "interval_s": 10.0,
        },
        "inventory": {"age_s": 100.0, "domains": 12, "interval_s": 300.0, "hung_s": 0.0, "last_error": ""},
        "statistics": {"age_s": 500.0, "interval_s": 600.0, "hung_s": 0.0, "last_error": ""},
        "canary": {},
    }


def worker(**changes: Any) -> dict[str, Any]:  # noqa: ANN401
    values = {
        "slot": 1,
        "state": "ready",
        "doing": "waiting",
        "since_s": 500.0,
        "silent_s": 0.4,
        "last_trouble": "",
        "panel_trouble": "",
    }
    return values | changes


def master_status() -> dict[str, Any]:
    return {
        "program": "vmwatch-master",
        "version": "0.1.0",
        "pid": PID,
        "uptime_s": 999.0,
        "turn_age_s": 0.1,
        "workers_wanted": 2,
        "workers": [worker(), worker(slot=2)],
        "nodes": {"kvm-1": {"alive": True, "clock_skew_s": 0.01}, "kvm-2": {"alive": False, "clock_skew_s": 900.0}},
        "in_flight": 0,
        "waiting": 0,
        "stall_s": 0.0,
        "rejects": {"by_reason": {"mac": 3}},
        "dead_letters": {"written": 0, "waiting": 0, "failure": ""},
        "panel_timeout_s": 30.0,
        "panel_answer_age_s": 2.0,
        "panel_trouble": "",
        "panel_needs_person": False,
    }


def facts(program: str = "vmwatch-node", **changes: Any) -> Facts:  # noqa: ANN401
    """A service that is well, with these changes."""
    values: dict[str, Any] = {
        "program": program,
        "now": NOW,
        "installed": True,
        "config": ConfigFacts(Config.RIGHT),
        "pid_file": PidFileFacts(PID, NOW - 999),
        "process": process(program),
        "answer": Answer.GIVEN,
        "status": node_status() if program == "vmwatch-node" else master_status(),
    }
    return Facts(**(values | changes))


def changed(status: dict[str, Any], *path: str, to: Any) -> dict[str, Any]:  # noqa: ANN401
    """The status with one value changed in place."""
    inner = status
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = to
    return status
