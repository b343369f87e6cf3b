"""Runs the panel: from settings to a process that serves, and back down in order."""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from vmwatch.panel.accounts import Accounts
from vmwatch.panel.app import make_app
from vmwatch.panel.board import Board
from vmwatch.panel.configurator import Configurator
from vmwatch.panel.functions import READERS, Panel
from vmwatch.panel.headlimit import HeadLimit
from vmwatch.panel.history import recall
from vmwatch.panel.hypervisors import Hypervisors
from vmwatch.panel.identity import Identity
from vmwatch.panel.installer import Installer
from vmwatch.panel.libvirtssh import LibvirtSsh
from vmwatch.panel.live import Live
from vmwatch.panel.proof import Proof
from vmwatch.panel.reload import Reload
from vmwatch.panel.remedies import add_remedies
from vmwatch.panel.retention import Retention
from vmwatch.panel.rootway import needs_root
from vmwatch.panel.settings import PanelSettings
from vmwatch.panel.sshway import OverSsh
from vmwatch.panel.store import Store, database_url
from vmwatch.panel.vigil import keep_watch
from vmwatch.panel.writer import Writer
from vmwatch.shared.clock import SystemClock
from vmwatch.shared.endpoints import Endpoint
from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.exits import Exit
from vmwatch.shared.notify import Notifier
from vmwatch.shared.paths import Paths
from vmwatch.shared.signals import Signals
from vmwatch.shared.statussocket import StatusSocket
from vmwatch.shared.version import VERSION

log = logging.getLogger(__name__)

REQUESTS_END_S = 4.0
"""Calls that are under way when the panel stops may take so long; together with the next less than the 10 s of
design 04."""
WRITER_ENDS_S = 4.0
TASKS_END_S = 1.0
BACKLOG = 512
MOST_CONNECTIONS = 1000


Equip = Callable[[Panel], None]
"""Adds what is not the panel's own, such as solvers, before it serves."""


def equip_nothing(panel: Panel) -> None:
    """The panel as it is."""


def serve(settings: PanelSettings, paths: Paths, reload: Reload, equip: Equip = equip_nothing) -> int:
    """Serve until a signal; returns the exit code. Raises ConfigurationError or StoreError if it cannot start."""
    signals = Signals()
    try:
        return asyncio.run(_Server(settings, paths, reload, signals, equip).run())
    finally:
        signals.retire()


class _Unfinished(logging.Filter):
    """A call that the end of the panel cuts short is no defect: in place of uvicorn's traceback a line says so."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
            record.msg, record.args, record.exc_info = "a call did not end in time and is not answered", (), None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


class _Uvicorn(uvicorn.Server):
    """uvicorn without its own signal handlers: the panel has to end its streams first."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Server:
    """One run of the panel."""

    def __init__(
        self, settings: PanelSettings, paths: Paths, reload: Reload, signals: Signals, equip: Equip
    ) -> None:
        self._settings = settings
        self._paths = paths
        self._reload = reload
        self._clock = SystemClock()
        self._signals = signals
        self._equip = equip
        self._notifier = Notifier()
        self._defect = False
        self._stopping = False

    async def run(self) -> int:
        """Everything that runs, in the order in which it starts; it ends in the opposite one."""
        self._signals.install()
        listener = listen(self._settings.panel_listen)
        store = Store(database_url(self._settings.panel_database, self._paths.database))
        try:
            store.open()
            stored = store.load()
            stored.known.want_all_inventories()
            recall(store, stored, self._clock.monotonic())
            board = Board()
            board.fill(stored)
            writer = Writer(store, stored, board, self._clock)
            identity = Identity(Accounts(store), self._clock)
            live = Live(board)
            self._panel = Panel(
                self._settings, store, identity, writer, board, live, self._clock, prefix=self._paths.prefix
            )
            self._equip(self._panel)
            self._configurator = self._panel.configurator = Configurator(self._panel, self._paths)
            add_remedies(self._panel.solvers, self._configurator)
            by_command = OverSsh(self._configurator.reach)
            self._panel.checks.ways["ssh"] = by_command
            if needs_root(self._paths.prefix):  # the agent's files are not the panel's user's to read
                self._panel.checks.ways["local"] = by_command
            status = StatusSocket(self._paths.socket, self.describe)
            status.start()
            writer.start()
            try:
                await self._serve(listener)
            finally:
                # No call is under way any more. What waits in the writer was not answered; it is finished first.
                ended = await asyncio.to_thread(writer.stop, WRITER_ENDS_S)
                status.close()
                identity.close()
                if not ended:
                    log.error("the writer did not end within %g s; what it did not commit is sent again", WRITER_ENDS_S)
        finally:
            listener.close()
            store.close()
        return Exit.DEFECT if self._defect else Exit.OK

    async def _serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._uvicorn = _Uvicorn(self._configuration())
        self._panel.writer.on_defect = lambda: _wake(loop, self._fail)
        self._panel.live.start(loop)
        loop.add_reader(self._signals.wakeup_fd, self._on_signal)
        panel = self._panel
        kept = panel.marks.keep(), panel.mender.run(), self._configurator.keep(), Proof(panel, self._notifier).keep()
        installer = Installer(panel, Hypervisors(ssh=LibvirtSsh(self._configurator.reach.install_ssh)))
        works = Retention(panel).keep(), keep_watch(panel), installer.run(), *kept
        tasks = [loop.create_task(work) for work in works]
        try:
            log.info("serves %s://%s", "https" if self._settings.tls else "http", _address(self._settings.panel_listen))
            self._notifier.ready()
            self._on_signal()  # one that came before there was a reader
            await self._uvicorn.serve(sockets=[listener])
        finally:
            for task in tasks:
                task.cancel()
            # What is under way at libvirt is ended now; whatever of it was done is found by the next run.
            await asyncio.wait(tasks, timeout=TASKS_END_S)
            loop.remove_reader(self._signals.wakeup_fd)

    def _configuration(self) -> uvicorn.Config:
        errors = logging.getLogger("uvicorn.error")
        errors.setLevel(logging.WARNING)  # our own lines say when it starts and stops
        errors.addFilter(_Unfinished())
        config = uvicorn.Config(
            make_app(self._panel),
            http=HeadLimit,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # whoever reaches the port could say any address
            lifespan="off",
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=int(REQUESTS_END_S),
            ssl_certfile=self._settings.panel_certificate,
            ssl_keyfile=self._settings.panel_key,
        )
        try:
            config.load()
        except (ssl.SSLError, OSError) as error:
            text = f"PanelCertificate, PanelKey: {error}; a PEM certificate with its key is allowed"
            raise ConfigurationError(text) from None
        self._reload.tls = config.ssl
        return config

    def _on_signal(self) -> None:
        self._signals.drain()
        if self._signals.stop_requests > 1:
            log.warning("stops at once")
            logging.shutdown()
            os._exit(Exit.OK)  # what is committed is safe, and what is not was not answered
        if self._signals.stop_requests and not self._stopping:
            log.info("stops")
            self._stop()
        if self._signals.reload_requests:
            self._signals.reload_requests = 0
            self._notifier.reloading()
            self._panel.settings = self._reload.again(self._panel.settings)
            self._notifier.ready()

    def _stop(self) -> None:
        """Streams first: uvicorn waits for connections, and they would never end by themselves."""
        self._stopping = True
        self._notifier.stopping()
        self._panel.live.close()
        self._uvicorn.should_exit = True

    def _fail(self) -> None:
        self._defect = True
        self._stop()

    def describe(self) -> dict[str, Any]:
        """The status socket's answer; ages in seconds."""
        panel, now = self._panel, self._clock.monotonic()
        waiting = panel.writer.waiting
        return {
            "program": self._paths.program,
            "version": VERSION,
            "pid": os.getpid(),
            "stopping": self._stopping,
            "listen": str(self._settings.panel_listen),
            "writer": {
                "alive": panel.writer.is_alive,
                "waiting": waiting,
                "stuck_s": round(now - panel.writer.last_turn, 3) if waiting else 0.0,
                "commits": panel.writer.commits,
                "commit_failures": panel.writer.commit_failures,
            },
            "last_event": panel.board.last_event,
            "nodes": len(panel.board.nodes()),
            "vms": len(panel.board.vms()),
            "sessions": panel.identity.session_count,
            "failed_logins": panel.identity.failures,
            "live_clients": panel.live.clients,
            "reader_threads": READERS,
            "counters": dict(panel.counters),
        }


def listen(endpoint: Endpoint) -> socket.socket:
    """A listening socket; raises ConfigurationError that names the address."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit it. asyncio would set it only on sockets made with an explicit IPPROTO_TCP, and
        # without it each answer's body waits 40 ms for the acknowledgement of its headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((endpoint.host, endpoint.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"PanelListen: cannot listen on {_address(endpoint)}: {error.strerror}") from None
    return listener


def _wake(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(act)


def _address(endpoint: Endpoint) -> str:
    return str(endpoint).removeprefix("tcp://")
