"""Gathers the facts about one service: its files, its process, its status socket."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vmwatch.healthcheck.canary import sing
from vmwatch.healthcheck.facts import (
    Answer,
    CanaryFacts,
    Config,
    ConfigFacts,
    Facts,
    MaintenanceFacts,
    Status,
    number_at,
    text_at,
)
from vmwatch.healthcheck.libvirtdaemon import find_daemon
from vmwatch.healthcheck.processes import look_at, read_pid_file
from vmwatch.shared import rights
from vmwatch.shared.conffile import Loaded, load
from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.maintenance import read_maintenance
from vmwatch.shared.masterfile import load_master_settings
from vmwatch.shared.paths import Paths
from vmwatch.shared.serviceuser import service_user
from vmwatch.shared.settings import NodeSettings
from vmwatch.shared.statussocket import read_status

STATUS_SHARE = 0.5
CANARY_SHARE = 0.85
"""Of the probe's time limit: by then the status, or the canary, has come or is given up, and there is time to tell."""


def gather(paths: Paths, config: Path, limit_s: float, canary: bool, stage: Callable[[str], None]) -> Facts:
    """All facts about the service of `paths`. `stage` is told what is looked at next: whoever waits may give up."""
    begun = time.monotonic()
    stage(f"reading {config}")
    config_facts = _with_rights(read_config(paths.program, config), paths, config)
    maintenance, maintenance_error = _maintenance(paths)
    stage(f"reading {paths.socket}")
    answer, text, status = ask(paths.socket, STATUS_SHARE * limit_s)
    sung: CanaryFacts | None = None
    if canary and answer is Answer.GIVEN:
        stage("waiting for the canary")
        sung, status = sing(paths, status, begun + CANARY_SHARE * limit_s)
    pid_file = read_pid_file(paths.pid)
    said = int(number_at(status, "pid") or 0)
    pid = said or (pid_file.pid if pid_file else 0)
    stage(f"looking at process {pid}")
    return Facts(
        program=paths.program,
        now=time.time(),
        installed=is_installed(paths.program),
        config=config_facts,
        pid_file=pid_file,
        process=look_at(pid, paths.pid) if pid else None,
        answer=answer,
        answer_text=text,
        status=status,
        canary=sung,
        maintenance=maintenance,
        maintenance_error=maintenance_error,
        daemon=find_daemon(text_at(status, "libvirt", "uri")) if paths.program == "vmwatch-node" else None,
    )


def is_installed(program: str) -> bool:
    """Beside this program, beside its interpreter, or on the PATH."""
    beside = {Path(sys.argv[0]).absolute().parent, Path(sys.executable).parent}
    return any(os.access(folder / program, os.X_OK) for folder in beside) or shutil.which(program) is not None


def read_config(program: str, path: Path) -> ConfigFacts:
    """What can be said of the file."""
    try:
        if not path.exists():
            return ConfigFacts(Config.ABSENT, f"{path} does not exist")
    except OSError as error:
        return ConfigFacts(Config.UNREADABLE, f"{path}: {error.strerror}")
    if not os.access(path, os.R_OK):
        return ConfigFacts(Config.UNREADABLE, f"{path}: may not be read by this user")
    try:
        loaded: Loaded[Any] = load_master_settings(path) if program == "vmwatch-master" else load(path, NodeSettings)
    except ConfigurationError as error:
        return ConfigFacts(Config.WRONG, str(error).splitlines()[0])
    return ConfigFacts(Config.DISABLED if loaded.settings.disabled else Config.RIGHT)


def _with_rights(found: ConfigFacts, paths: Paths, config: Path) -> ConfigFacts:
    """A service whose files are not its own would not start, however right its configuration is."""
    user = service_user(paths)
    if found.kind is not Config.RIGHT or (user is not None and os.geteuid() not in (0, user.uid)):
        return found
    mistakes = rights.look(paths, config, user).mistakes
    return ConfigFacts(Config.WRONG, mistakes[0]) if mistakes else found


def ask(path: Path, limit_s: float) -> tuple[Answer, str, Status]:
    """The status, or how it failed."""
    try:
        status = read_status(path, limit_s)
    except FileNotFoundError:
        return Answer.ABSENT, "", {}
    except ConnectionRefusedError:
        return Answer.REFUSED, "", {}
    except PermissionError:
        return Answer.FORBIDDEN, f"{path}: may not be read by this user; the service's own user and root may", {}
    except TimeoutError:
        return Answer.SILENT, f"{limit_s:g} s", {}
    except (OSError, ValueError) as error:
        return Answer.GARBLED, str(error)[:200], {}
    return Answer.GIVEN, "", status


def _maintenance(paths: Paths) -> tuple[MaintenanceFacts | None, str]:
    try:
        found = read_maintenance(paths.maintenance)
    except (ConfigurationError, OSError) as error:
        return None, str(error).splitlines()[0]
    return (MaintenanceFacts(found.until, found.by, found.reason) if found else None), ""
