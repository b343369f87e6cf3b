"""A whole installation as a test runs it: panel, master and nodes, each a real process below one folder."""

import contextlib
import json
import os
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from tests.testbed.service import Service, command
from tests.testbed.telling import end_of
from tests.testbed.waiting import free_port, free_port_pair, wait_until
from vmwatch.shared import conffile

SECRET = "TESTSECRETTESTSECRETTESTSECRET12"
ADMIN = ("admin", "an admin's password")
SERVICE = ("vmwatch", "a service's password")

Row = dict[str, str]


def plain(element: dict[str, Any]) -> Row:
    """A row of the panel's list, `{"id": {"$": "7"}}`, as `{"id": "7"}`."""
    return {name: value["$"] if isinstance(value, dict) else value for name, value in element.items()}


class Panel(Service):
    """vmwatch-panel with an administrator and the account of the workers."""

    def __init__(self, prefix: Path) -> None:
        super().__init__("vmwatch-panel", prefix)
        self.port = free_port()
        (prefix / "etc").mkdir(parents=True, exist_ok=True)
        (prefix / "etc" / "vmmgr.conf").write_text(f"PanelListen 127.0.0.1:{self.port}\n")
        (prefix / "etc" / "vmmgr.conf").chmod(0o600)
        (prefix / "var").mkdir(parents=True, exist_ok=True)
        database = prefix / "var" / "vmwatch-panel.db"
        database.write_bytes(_database_with_accounts())
        database.chmod(0o600)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/vmmgr"

    def call(self, func: str, **parameters: str | int) -> dict[str, Any]:
        """One call as the administrator; `doc` of its answer."""
        answer = requests.get(
            self.url, params={"func": func, "out": "json", **parameters}, auth=ADMIN, timeout=60
        )
        answer.raise_for_status()
        doc: dict[str, Any] = answer.json()["doc"]
        return doc

    def change(self, func: str, **parameters: str) -> dict[str, Any]:
        """One call that changes something, as the administrator; `doc` of its answer."""
        data = {"func": func, "out": "json", "sok": "ok", **parameters}
        answer = requests.post(self.url, data=data, auth=ADMIN, timeout=60)
        answer.raise_for_status()
        doc: dict[str, Any] = answer.json()["doc"]
        return doc

    def rows(self, func: str, **parameters: str | int) -> list[Row]:
        """A list's rows; none while the panel is away."""
        try:
            elements = self.call(func, p_cnt=1000, **parameters).get("elem", [])
        except requests.RequestException:
            return []
        return [plain(element) for element in (elements if isinstance(elements, list) else [elements])]

    def events(self, **filters: str) -> list[Row]:
        """The whole event log, oldest first."""
        rows: list[Row] = []
        after = "0"
        while page := self.rows("eventlog", after=after, **filters):
            rows += page
            after = page[-1]["id"]
        return rows

    def vms(self) -> dict[str, Row]:
        """The picture, by UUID."""
        return {row["uuid"]: row for row in self.rows("vm")}

    def told(self) -> Iterator[tuple[str, str]]:
        """As `Telling`."""
        for func in ("vmhostnode", "vm", "vm.install.list", "problems"):
            yield func, "\n".join(json.dumps(row) for row in self.rows(func))
        yield self.program, end_of(self.log)


@cache
def _database_with_accounts() -> bytes:
    """A panel's database in which there are these two accounts: to make one costs a second, for its password's hash."""
    with tempfile.TemporaryDirectory(prefix="accounts-") as folder:
        prefix = Path(folder)
        (prefix / "etc").mkdir()
        for (name, password), role in ((ADMIN, "admin"), (SERVICE, "service")):
            subprocess.run(
                [command("vmwatch-panel"), "--prefix", str(prefix), "user", "set", name, "--role", role],
                input=password.encode() + b"\n",
                check=True,
                capture_output=True,
            )
        return (prefix / "var" / "vmwatch-panel.db").read_bytes()


class Stack:
    """Panel, master and nodes. A node's prefix is its own, as if it were another host."""

    def __init__(self, folder: Path, *, workers: int = 2) -> None:
        # A UNIX socket's path is short, and pytest's folders are not.
        self.folder = folder
        self.prefix = folder / "m"
        for part in ("etc", "var"):
            (self.prefix / part).mkdir(parents=True, exist_ok=True)
        self.port = free_port_pair()
        self.panel = Panel(self.prefix)
        self.write_master(workers=str(workers))
        self.master = Service("vmwatch-master", self.prefix)
        self.nodes: dict[str, Service] = {}
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._open.enter_context(self.panel)
            self._open.enter_context(self.master)
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for title, text in self.told():
                error.add_note(f"{title}:\n{text}")
        self._open.close()

    def told(self) -> Iterator[tuple[str, str]]:
        """As `Telling`."""
        yield from self.panel.told()
        for name, service in (("vmwatch-master", self.master), *self.nodes.items()):
            yield name, end_of(service.log)

    def write_master(self, **changes: str) -> None:
        """The master's configuration file, with these settings beside the usual ones."""
        values = {
            "listen": f"tcp://127.0.0.1:{self.port}",
            "secret": SECRET,
            "panel_url": self.panel.url,
            "panel_user": SERVICE[0],
            "panel_password": SERVICE[1],
            "panel_timeout": "5",
        }
        conffile.write(self.prefix / "etc" / "vmwatch-master.conf", values | changes)

    def node(self, name: str, libvirt_uri: str, **changes: str) -> Service:
        """A node's agent, configured and not started; it is ended with the stack."""
        prefix = self.folder / name
        for part in ("etc", "var"):
            (prefix / part).mkdir(parents=True, exist_ok=True)
        values = {
            "connect": f"tcp://127.0.0.1:{self.port}",
            "secret": SECRET,
            "node_id": name,
            "libvirt_uri": libvirt_uri,
            "heartbeat_interval": "1",
        }
        conffile.write(prefix / "etc" / "vmwatch-node.conf", values | changes)
        service = Service("vmwatch-node", prefix)
        self._open.callback(service.close)
        self.nodes[name] = service
        return service

    def start_node(self, name: str, libvirt_uri: str, **changes: str) -> Service:
        """A node's agent, running and listening to its libvirtd."""
        service = self.node(name, libvirt_uri, **changes)
        service.start()
        self.wait_listening(service)
        return service

    def wait_listening(self, node: Service) -> None:
        """Wait until the agent has its callbacks registered and has listed: from here on no event is missed."""
        wait_until(
            lambda: node.status.get("inventory", {}).get("age_s") is not None,
            f"the first listing of {node.prefix.name}",
        )

    def wait_drained(self) -> None:
        """Wait until every running node's outbox is empty: all it had is committed."""
        for name, node in self.nodes.items():
            if not node.process_ended():
                wait_until(
                    lambda node=node: node.status.get("outbox", {}).get("depth") == 0,  # type: ignore[misc]
                    f"the outbox of {name} to drain",
                    timeout_s=180,
                )


def short_folder() -> Path:
    """A name for a folder whose path leaves room for UNIX sockets."""
    return Path("/tmp") / f"vw-{os.getpid()}-{uuid.uuid4().hex[:6]}"
