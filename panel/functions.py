"""What a function of the API is: its name, who may call it, and what it gets."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Optional, TypeVar

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from vmwatch.panel.accounts import Role
from vmwatch.panel.board import Board
from vmwatch.panel.checks import Checks
from vmwatch.panel.convention import Answer, ApiError, Kind, Out, Params
from vmwatch.panel.identity import Caller, Identity
from vmwatch.panel.live import Live
from vmwatch.panel.marks import Marks
from vmwatch.panel.mender import Mender
from vmwatch.panel.settings import PanelSettings
from vmwatch.panel.solvers import Solvers
from vmwatch.panel.store import Store
from vmwatch.panel.ways import ThisMachine
from vmwatch.panel.writer import Writer
from vmwatch.shared.clock import Clock

if TYPE_CHECKING:
    from vmwatch.panel.configurator import Configurator

_T = TypeVar("_T")
READERS = 4
"""Lists read from the database at the same time; as many connections serve them."""

ANYBODY: frozenset[Role] = frozenset()
"""Also who has not said who he is."""
EVERY_ROLE = frozenset(Role)
ADMIN = frozenset({Role.ADMIN})
OPERATORS = frozenset({Role.ADMIN, Role.OPERATOR})
VIEWERS = frozenset({Role.ADMIN, Role.OPERATOR, Role.VIEWER})
WORKERS = frozenset({Role.ADMIN, Role.SERVICE})


@dataclass
class Panel:
    """The running panel's parts. `settings` may be replaced while it runs."""

    settings: PanelSettings
    store: Store
    identity: Identity
    writer: Writer
    board: Board
    live: Live
    clock: Clock
    prefix: Path = field(default_factory=Path)
    """Where the services of this host have their files."""
    configurator: Optional["Configurator"] = None
    counters: Counter[str] = field(default_factory=Counter)
    """`calls.NAME`, `errors.TYPE`, `http.STATUS`, `messages.applied`, `.known` and `.refused`."""

    solvers: Solvers = field(default_factory=Solvers)
    """What solves problems; filled before the panel serves."""

    def __post_init__(self) -> None:
        self.marks = Marks(self.board, self.prefix)
        self.checks = Checks(self.board, self.writer, self.clock, ThisMachine(self.prefix))
        self.mender = Mender(self.writer, self.board, self.live, self.clock, self.solvers, self.checks.look_again)
        self._readers: anyio.CapacityLimiter | None = None

    async def read(self, work: Callable[[], _T]) -> _T:
        """Run what reads the database in a thread of its own."""
        if self._readers is None:
            self._readers = anyio.CapacityLimiter(READERS)
        return await anyio.to_thread.run_sync(work, limiter=self._readers)


@dataclass(frozen=True)
class Call:
    """One call, after it was let in. `caller` is None only where anybody may call."""

    panel: Panel
    func: str
    out: Out
    params: Params
    caller: Caller | None
    address: str
    request: Request
    body: bytes = b""


@dataclass(frozen=True)
class Function:
    """`changes`: something; then a browser's own proof of identity is not enough (`identity.is_forged`).

    `body`: it takes a JSON body of so many bytes at most, instead of a form.
    """

    name: str
    handle: Callable[[Call], Awaitable[Answer | Response]]
    roles: frozenset[Role]
    changes: bool = False
    body: int = 0

    def admit(self, caller: Caller | None) -> None:
        """Raises ApiError: `auth` if it is not known who calls, `access` if he may not."""
        if self.roles is ANYBODY:
            return
        if caller is None:
            raise ApiError(Kind.AUTH, "auth", "who calls? authinfo, auth, HTTP Basic or a session's cookie is required")
        if caller.account.role not in self.roles:
            roles = ", ".join(sorted(self.roles))
            raise ApiError(Kind.ACCESS, self.name, f"{self.name} is for {roles}, not for {caller.account.role}")
