"""The canary: a message that goes through outbox, master and panel, and leaves nothing behind but its key."""

import time

from vmwatch.healthcheck.facts import CanaryFacts, Status, number_at, text_at
from vmwatch.shared.paths import Paths
from vmwatch.shared.statussocket import read_status

LOOK_EVERY_S = 0.1
LEAST_S = 0.1
"""Of one reading of the status: what is asked for must have a chance."""


def sing(paths: Paths, status: Status, until: float) -> tuple[CanaryFacts, Status]:
    """Have the agent send one and wait for its acknowledgement, until `until` (monotonic seconds) at the latest.

    Also returns the newest status: `status`, or what was read since.
    """
    try:
        sent = read_status(paths.ping, _left_s(until))
        place = (int(sent["epoch"]), int(sent["seq"]))
    except FileNotFoundError:
        return CanaryFacts("not sent", text="this version of the agent knows none"), status
    except (OSError, ValueError) as error:
        return CanaryFacts("not sent", text=str(error) or type(error).__name__), status
    except KeyError:
        return CanaryFacts("not sent", text=str(sent.get("error", "the agent's answer is not understood"))), status
    found = CanaryFacts("under way")
    while True:
        try:
            status = read_status(paths.socket, _left_s(until))
        except (OSError, ValueError) as error:
            return CanaryFacts("not sent", text=f"the agent ended, or hangs, meanwhile: {error}"), status
        if (number_at(status, "canary", "epoch"), number_at(status, "canary", "seq")) != place:
            return CanaryFacts("not sent", text="the agent was started again meanwhile"), status
        found = CanaryFacts(text_at(status, "canary", "state"), number_at(status, "canary", "seconds"))
        if found.state != "under way" or time.monotonic() >= until:
            return found, status
        time.sleep(LOOK_EVERY_S)


def _left_s(until: float) -> float:
    return max(LEAST_S, until - time.monotonic())
