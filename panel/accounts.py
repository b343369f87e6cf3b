"""Accounts of the panel: who may call what, and their passwords as memory-hard hashes."""

import base64
import functools
import hashlib
import hmac
import re
import secrets
import threading
import time
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert

from vmwatch.panel.schema import accounts
from vmwatch.panel.store import Store

ACCOUNT_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
MAX_PASSWORD_BYTES = 1024
LOG2_N, R, P = 15, 8, 3
"""scrypt's cost: 32 MiB and about a quarter of a second, what OWASP's password storage cheat sheet asks for."""
_HASH_BYTES = 32
_SALT_BYTES = 16
ROLES_KEPT_S = 1.0
"""How long a session may work with a role that was changed, or an account that was deleted, meanwhile."""


class Role(StrEnum):
    """What an account may call: everything, the work with VMs and nodes, lists, or what a worker needs."""

    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Account:
    """`password` is the hash: it also tells a session that the password was changed."""

    name: str
    role: Role
    password: str


def check_name(name: str) -> str:
    """Raises ValueError that says what is allowed."""
    if not ACCOUNT_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not allowed; 1 to 64 of A-Z a-z 0-9 . _ @ - are")
    return name


def hash_password(password: str) -> str:
    """A salted hash with its cost in front, so that the cost can rise without a word to anybody.

    Raises ValueError that says what a password may be.
    """
    encoded = password.encode()
    if not encoded or len(encoded) > MAX_PASSWORD_BYTES or not password.isprintable():
        raise ValueError(f"1 to {MAX_PASSWORD_BYTES} bytes without control characters are allowed")
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"scrypt${LOG2_N}${R}${P}${_text(salt)}${_text(_scrypt(encoded, salt, LOG2_N, R, P))}"


def password_fits(password: str, hashed: str) -> bool:
    """Compares in constant time; takes a quarter of a second and 32 MiB, so never in the event loop's thread."""
    try:
        _, log2_n, r, p, salt, expected = hashed.split("$")
        cost = int(log2_n), int(r), int(p)
    except ValueError:
        return False
    encoded = password.encode()[: MAX_PASSWORD_BYTES + 1]
    return hmac.compare_digest(_scrypt(encoded, base64.b64decode(salt), *cost), base64.b64decode(expected))


def _scrypt(password: bytes, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    n = 1 << log2_n
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=_HASH_BYTES)


def _text(binary: bytes) -> str:
    return base64.b64encode(binary).decode()


@functools.cache
def _nobody() -> str:
    """What an unknown name's password is compared with: the answer takes as long as for a known one."""
    return hash_password(secrets.token_hex())


class Accounts:
    """The stored accounts. `vmwatch-panel user` changes them from another process while the panel runs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._kept: dict[str, Account] = {}
        self._kept_at = float("-inf")

    def save(self, name: str, role: Role, password: str) -> None:
        """Make or change an account. Raises ValueError for a name or password that is not allowed."""
        row = {"name": check_name(name), "role": role, "password": hash_password(password)}
        statement = insert(accounts).values(row)
        with self._store.writing() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=row))

    def delete(self, name: str) -> bool:
        """False if there is none."""
        with self._store.writing() as connection:
            return connection.execute(delete(accounts).where(accounts.c.name == name)).rowcount > 0

    def all(self) -> list[Account]:
        """By name."""
        with self._store.reading() as connection:
            rows = connection.execute(select(accounts).order_by(accounts.c.name))
            return [Account(row.name, Role(row.role), row.password) for row in rows]

    def find(self, name: str) -> Account | None:
        """The account as it was at most ROLES_KEPT_S ago; reads all of them now and then, which blocks a moment."""
        with self._lock:
            now = time.monotonic()
            if now - self._kept_at > ROLES_KEPT_S:
                self._kept = {account.name: account for account in self.all()}
                self._kept_at = now
            return self._kept.get(name)

    def verify(self, name: str, password: str) -> Account | None:
        """The account if name and password are right at this moment. Blocks for the hash."""
        with self._lock:
            self._kept_at = float("-inf")
        account = self.find(name)
        fits = password_fits(password, account.password if account else _nobody())
        return account if fits else None
