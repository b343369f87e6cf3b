"""The way of samples to the activity check: those of each commit, and after a start those in the database, so that a
panel that starts warns of what it had warned of.
"""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from vmwatch.panel.activity import WATCHED
from vmwatch.panel.knowledge import Draft, StatsRow
from vmwatch.panel.policies import policy_of
from vmwatch.panel.schema import stats
from vmwatch.panel.store import Store, Stored
from vmwatch.shared.errors import StoreError
from vmwatch.shared.messages import DomainStats
from vmwatch.shared.states import State

MOST_SAMPLES = 100_000
"""The newest ones, about a second's work: a day of 700 VMs. Of more VMs an idle time may seem to begin later than it
did, but still most of a day ago."""


def recall(store: Store, stored: Stored, monotonic: float) -> None:
    """Let `stored.activity` see the newest samples again, as if they had come just now. Raises StoreError."""
    stored.activity.policy = policy_of(stored.policies)
    columns = ("id", "uuid", "node", "taken", "interval", "state", "cpu_ns", *WATCHED)
    query = (
        select(*(stats.c[name] for name in columns))
        .where(stats.c.id > stored.last_stats - MOST_SAMPLES)
        .order_by(stats.c.id)
    )
    try:
        with store.reading() as connection:
            # The table does not tell a sample's place; in one older than any epoch each message to come is newer.
            rows = (
                StatsRow(node, 0, number, taken, interval, DomainStats(uuid, State(state), cpu, **_counters(counts)))
                for number, uuid, node, taken, interval, state, cpu, *counts in connection.execute(query)
            )
            stored.activity.observe(rows, stored.known.claim, monotonic)
    except (SQLAlchemyError, ValueError) as error:
        raise StoreError(f"the statistics cannot be read: {getattr(error, 'orig', error)}") from None


def _counters(counts: Sequence[int | None]) -> dict[str, int | None]:
    return dict(zip(WATCHED, counts, strict=True))


def follow(stored: Stored, draft: Draft, monotonic: float) -> list[str]:
    """After a commit and the draft's merge: what it says of activity; the UUIDs of VMs to be judged again."""
    activity, known = stored.activity, stored.known
    policy = policy_of(stored.policies)
    changed, activity.policy = policy != activity.policy, policy
    for (uuid, node), claim in draft.claims.items():
        if claim is None or claim.state is not State.RUNNING:
            activity.forget(uuid, node)
    touched = activity.observe(draft.stats, known.claim, monotonic) | activity.expire(monotonic)
    return list(known.vms) if changed else list(touched)
