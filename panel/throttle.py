"""Slows down who guesses passwords: by address and by account, in memory, without blocking anybody else."""

from collections import OrderedDict
from dataclasses import dataclass

from vmwatch.shared.clock import Clock

FREE_FAILURES = 3
"""A person mistypes so often; from then on each failure doubles the wait."""
FIRST_DELAY_S = 0.25
MOST_DELAY_S = 4.0
ADDRESS_LIMIT = 20
ACCOUNT_LIMIT = 100
"""Failures within a window past which a call is refused. An account's is higher, since many addresses add up to it."""
WINDOW_S = 300.0
MOST_KEPT = 10_000
"""Counters and trusted pairs; beyond that the oldest are forgotten."""


@dataclass
class _Count:
    failures: int
    until: float


class Throttle:
    """Counts failures. An attempt counts as one from its begin, so that a thousand at once are seen as a thousand.

    An address from which an account logged in before has a counter of its own with that account, and only that one:
    a stranger who guesses cannot lock out the worker that the cluster depends on.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: OrderedDict[tuple[str, str], _Count] = OrderedDict()
        self._trusted: OrderedDict[tuple[str, str], None] = OrderedDict()

    def begin(self, address: str, account: str) -> tuple[float, float]:
        """(seconds to wait before the check, seconds after which another call is worth it: 0 if this one may pass)."""
        failures, refused_s = 0, 0.0
        now = self._clock.monotonic()
        counts = []
        for key, limit in self._keys(address, account):
            count = self._counts.get(key)
            if count is None or count.until <= now:
                count = _Count(0, now + WINDOW_S)
                self._counts[key] = count
            counts.append(count)
            failures = max(failures, count.failures if limit == ADDRESS_LIMIT else 0)
            if count.failures >= limit:
                refused_s = max(refused_s, count.until - now)
        if refused_s:
            return 0.0, refused_s
        for count in counts:
            count.failures += 1
        while len(self._counts) > MOST_KEPT:
            self._counts.popitem(last=False)
        return delay_s(failures), 0.0

    def succeeded(self, address: str, account: str) -> None:
        """The attempt was no failure; what the address did before with this account is forgiven."""
        for key, limit in self._keys(address, account):
            if limit == ADDRESS_LIMIT:
                self._counts.pop(key, None)
            elif key in self._counts:
                self._counts[key].failures -= 1
        self._trusted[address, account] = None
        self._trusted.move_to_end((address, account))
        while len(self._trusted) > MOST_KEPT:
            self._trusted.popitem(last=False)

    def _keys(self, address: str, account: str) -> list[tuple[tuple[str, str], int]]:
        if (address, account) in self._trusted:
            return [((address, account), ADDRESS_LIMIT)]
        return [((address, ""), ADDRESS_LIMIT), (("", account), ACCOUNT_LIMIT)]


def delay_s(failures: int) -> float:
    """How long the next attempt waits after so many failures."""
    if failures < FREE_FAILURES:
        return 0.0
    return min(MOST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - FREE_FAILURES, 16))
