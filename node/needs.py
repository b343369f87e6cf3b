"""What a machine needs before it can be a node: looked at by `vmwatch-nodectl check`, and told in words."""

import importlib
import os
import shutil
import sys
import threading
from pathlib import Path

from vmwatch.node.libvirtlook import look, look_as
from vmwatch.shared.confedit import valid_values
from vmwatch.shared.errors import VmwatchError
from vmwatch.shared.nodectl import Check
from vmwatch.shared.paths import Paths
from vmwatch.shared.rootmanager import trusted_manager
from vmwatch.shared.servicefile import read
from vmwatch.shared.serviceuser import service_user
from vmwatch.shared.settings import NodeSettings

OLDEST_PYTHON = (3, 11)
MODULES = ("zmq", "libvirt", "msgspec")
LIBVIRT_LIMIT_S = 15.0
MARGIN_MB = 64
"""Beside what the outbox may take: logs, and what SQLite writes on the side."""
_MB = 1024 * 1024


def needs(paths: Paths) -> list[Check]:
    """All of them, whether met or not. Takes LIBVIRT_LIMIT_S at most, where libvirt hangs."""
    values = valid_values(_readable(paths.config), NodeSettings)
    return [
        _python(),
        libvirt_answers(paths),
        _disk(paths.var, int(values.get("outbox_max_mb", "512")) + MARGIN_MB),
        _rights(paths),
        _manager(paths, values.get("service_manager", "")),
    ]


def libvirt_answers(paths: Paths) -> Check:
    """The first thing to know of a machine; takes LIBVIRT_LIMIT_S at most."""
    values = valid_values(_readable(paths.config), NodeSettings)
    uri = values.get("libvirt_uri", "qemu:///system")
    user = service_user(paths) if os.geteuid() == 0 else None
    return look_as(user, uri, LIBVIRT_LIMIT_S) if user is not None else _libvirt(uri)


def _readable(path: Path) -> str:
    try:
        return read(path)
    except VmwatchError:
        return ""  # `_rights` says so


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    absent = []
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            absent.append(f"{name} ({error})")
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Check("python", False, f"Python {version} is too old; {oldest} or newer is needed")
    if absent:
        return Check("python", False, f"Python {version} lacks the module {', '.join(absent)}; install vmwatch[node]")
    return Check("python", True, f"Python {version} with {', '.join(MODULES)}")


def _libvirt(uri: str) -> Check:
    """Asked in a thread, because it may hang."""
    found: list[Check] = []
    thread = threading.Thread(target=lambda: found.append(look(uri)), daemon=True)
    thread.start()
    thread.join(LIBVIRT_LIMIT_S)
    return found[0] if found else Check("libvirt", False, f"{uri} does not answer within {LIBVIRT_LIMIT_S:g} s")


def _disk(folder: Path, needed_mb: int) -> Check:
    there = _existing(folder)
    try:
        free_mb = shutil.disk_usage(there).free // _MB
    except OSError as error:
        return Check("disk", False, f"{there}: {error.strerror}")
    text = f"{free_mb} MiB are free in {there}, {needed_mb} are needed for the outbox and the log"
    return Check("disk", free_mb >= needed_mb, text)


def _rights(paths: Paths) -> Check:
    for folder in (paths.etc, paths.var):
        if not os.access(_existing(folder), os.W_OK | os.X_OK):
            return Check("rights", False, f"user {os.geteuid()} cannot write into {folder}")
    if paths.config.exists() and not os.access(paths.config, os.R_OK):
        return Check("rights", False, f"user {os.geteuid()} cannot read {paths.config}")
    return Check("rights", True, f"{paths.etc} and {paths.var} can be written")


def _manager(paths: Paths, choice: str) -> Check:
    try:
        return Check("services", True, f"{trusted_manager(paths, choice).name} starts and stops the service")
    except VmwatchError as error:
        return Check("services", False, str(error))


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
