"""Guards of `panel/rules.py`: what a claim says, which one speaks, and when a migration is over."""

from tests.guards.guard import Guard

FILE = "panel/rules.py"


def _guard(name: str, text: str, replacement: str, keeps: str) -> Guard:
    return Guard(name, FILE, text, replacement, keeps)


CLAIMS = (
    _guard("left-is-unknown", "if departed:", "if False:", "5: a VM that left by a migration is not stopped"),
    _guard(
        "ended-without-definition-is-gone",
        "if transient:",
        "if False:",
        "1: a VM without a definition is gone when it ends",
    ),
    _guard(
        "only-who-has-no-definition-is-gone",
        "return persistent is False and persisted[0] >= stated[0]",
        "return persisted[0] >= stated[0]",
        "1: a VM whose definition nobody told of is stopped when it ends",
    ),
    _guard(
        "a-definition-may-come-while-nobody-listens",
        "return persistent is False and persisted[0] >= stated[0]",
        "return persistent is False",
        "1: what an earlier run of the agent said of the definition may be over",
    ),
    _guard(
        "defined-is-known-to-be",
        "self.told is State.SHUTOFF and self.persistent is True",
        "self.told is State.SHUTOFF",
        "1: of stopped claims one with a definition speaks",
    ),
    _guard(
        "held-is-no-end-of-a-migration",
        "return self.told in ACTIVE and not self.is_moving",
        "return self.told in ACTIVE",
        "6: the two ends of a migration are no duplicate",
    ),
    _guard(
        "held-is-active",
        "return self.told in ACTIVE and not self.is_moving",
        "return not self.is_moving",
        "6: a stopped VM is held by nobody",
    ),
    _guard(
        "the-incoming-end-moves",
        'return self.moving in ("in", "out")',
        'return self.moving == "out"',
        "5: the destination waits, and does not hold the VM",
    ),
    _guard(
        "the-outgoing-end-moves",
        'return self.moving in ("in", "out")',
        'return self.moving == "in"',
        "5: the source that handed over does not hold the VM any more",
    ),
    _guard(
        "who-arrived-moves-no-more",
        'return self.moving in ("in", "out")',
        "return bool(self.moving)",
        "6: a VM that has arrived is held where it is",
    ),
)

JUDGING = (
    _guard(
        "a-doubted-nodes-word-does-not-count",
        "if doubted and node in doubted and state is not State.ABSENT:",
        "if False:",
        "3: VMs of a silent node are unknown",
    ),
    _guard(
        "what-a-doubted-node-has-not-stays-absent",
        "if doubted and node in doubted and state is not State.ABSENT:",
        "if doubted and node in doubted:",
        "3: a silent node makes no VMs",
    ),
    _guard(
        "unknown-since-the-doubt",
        "state, since = State.UNKNOWN, max(since, doubted[node])",
        "state = State.UNKNOWN",
        "3: unknown since the silence, not since the state began",
    ),
    _guard("unknown-before-stopped", "State.UNKNOWN: 4,", "State.UNKNOWN: 5,", "3: unknown is not stopped"),
    _guard("active-before-stopped", "State.SHUTOFF: 5,", "State.SHUTOFF: 0,", "4: only who holds a VM may stop it"),
    _guard("active-before-crashed", "State.CRASHED: 5,", "State.CRASHED: 0,", "4: only who holds a VM may stop it"),
    _guard("running-before-paused", "State.PAUSED: 2,", "State.PAUSED: 0,", "5: the running end of a migration speaks"),
    _guard(
        "in-shutdown-before-paused",
        "State.IN_SHUTDOWN: 1,",
        "State.IN_SHUTDOWN: 2,",
        "5: a guest that switches itself off speaks, not the end that waits for it",
    ),
    _guard(
        "asleep-before-unknown",
        "State.PMSUSPENDED: 3,",
        "State.PMSUSPENDED: 4,",
        "4: the node that holds a VM speaks before one that is silent",
    ),
    _guard("absent-says-nothing", "State.ABSENT: 6,", "State.ABSENT: 5,", "1: a node that has it not hides no other"),
    _guard(
        "among-stopped-the-definition",
        "not claim.is_defined, -claim.turn",
        "False, -claim.turn",
        "1: among stopped claims one with a definition speaks",
    ),
    _guard(
        "among-equals-the-newest",
        "not claim.is_defined, -claim.turn",
        "not claim.is_defined, claim.turn",
        "1: among equal claims the one that changed last speaks",
    ),
    _guard(
        "only-absent-claims-are-no-vm",
        "return None if state is State.ABSENT else Judgement(",
        "return Judgement(",
        "1: a VM that no node has is not in the picture",
    ),
)

ARRIVALS = (
    _guard(
        "only-an-arrival-ends-a-departure",
        'for node, claim in claims.items() if claim.moving == "arrived"]',
        "for node, claim in claims.items() if claim.told in ACTIVE]",
        "5: what another node said long ago is no arrival",
    ),
    _guard(
        "who-left-itself-is-nowhere-else",
        "elsewhere = any(not claim.departed and claim.state",
        "elsewhere = any(claim.state",
        "5: a migration that failed is over when another node has the VM",
    ),
    _guard(
        "who-has-it-not-is-nowhere-else",
        "elsewhere = any(not claim.departed and claim.state is not State.ABSENT for",
        "elsewhere = any(not claim.departed for",
        "5: a migration that failed is over when another node has the VM",
    ),
    _guard(
        "a-failure-waits-for-another-node",
        "lambda claim: claim.never_came and elsewhere",
        "lambda claim: claim.never_came",
        "5: the VM is where it was, once somebody says so",
    ),
    _guard(
        "only-a-failure-ends-with-any-word",
        "lambda claim: claim.never_came and elsewhere",
        "lambda claim: elsewhere",
        "5: what another node said long ago is no arrival",
    ),
    _guard(
        "who-left-waits-for-an-arrival",
        "lambda claim: not claim.never_came and bool(arrived)",
        "lambda claim: not claim.never_came",
        "5: unknown until it has arrived somewhere",
    ),
    _guard(
        "a-failure-spends-no-arrival",
        "lambda claim: not claim.never_came and bool(arrived)",
        "lambda claim: bool(arrived)",
        "5: one arrival ends one departure, and a migration that failed is none",
    ),
    _guard(
        "an-arrival-is-spent",
        '{node: replace(claims[node], moving="") for node in arrived} if left else {}',
        "{}",
        "5: an old arrival does not pay for a new departure",
    ),
    _guard(
        "only-a-departure-ends",
        "if claim.departed and is_over(claim)",
        "if is_over(claim)",
        "5: who has not left is not touched",
    ),
)

GUARDS = (*CLAIMS, *JUDGING, *ARRIVALS)
