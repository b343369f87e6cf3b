"""What the agent says about itself: in its heartbeats, and on its status socket. The one place with these names."""

import os
from pathlib import Path
from typing import Any

from vmwatch.node.delivery import Delivery
from vmwatch.node.hypervisor import Hypervisor
from vmwatch.node.outbox import Outbox
from vmwatch.shared.settings import NodeSettings


def heartbeat(outbox: Outbox, hypervisor: Hypervisor, settings: NodeSettings) -> dict[str, Any]:
    """`status` of a heartbeat (design 02). `outbox_oldest_s`: age of the oldest message, seconds."""
    source = hypervisor.source
    return {
        "outbox_depth": outbox.depth,
        "outbox_oldest_s": round(outbox.oldest_age_s(), 3),
        "outbox_trouble": outbox.trouble,
        "libvirt_uri": source.uri,
        "libvirt_version": source.version,
        "libvirt_answers": hypervisor.answers,
        "libvirt_error": source.last_error,
        "dropped": dict(outbox.dropped),
        "settings": settings.mark,
    }


def snapshot(
    now: float, settings: NodeSettings, delivery: Delivery, hypervisor: Hypervisor, set_aside: Path | None
) -> dict[str, Any]:
    """The agent's state after a turn of its loop. Ages and durations in seconds, `None` for "never"."""
    return {
        "pid": os.getpid(),
        "node_id": settings.node_id,
        "settings": settings.mark,
        "libvirt": _libvirt(now, hypervisor),
        "outbox": _outbox(delivery.outbox, set_aside),
        "master": _master(now, delivery),
        "inventory": {
            "age_s": _age(now, hypervisor.inventories.finished_at),
            "domains": hypervisor.inventories.domains,
            "interval_s": settings.inventory_interval,
            "hung_s": round(hypervisor.listing.hung_s(now), 3),
            "last_error": hypervisor.inventories.last_error,
            "definitions": hypervisor.definitions.known,
            "definition_error": next(iter(hypervisor.definitions.failures.values()), ""),
        },
        "statistics": {
            "age_s": _age(now, hypervisor.sampled_at),
            "interval_s": settings.stats_interval,
            "hung_s": round(hypervisor.sampling.hung_s(now), 3),
            "last_error": hypervisor.stats_error,
        },
    }


def _libvirt(now: float, hypervisor: Hypervisor) -> dict[str, Any]:
    source = hypervisor.source
    return {
        "uri": source.uri,
        "version": source.version,
        "connected": source.connection is not None and not source.lost_reason,
        "answers": hypervisor.answers,
        "events": source.received,
        "open_failures": source.failures,
        "opening_hung_s": round(source.opening_hung_s(now), 3),
        "loop_errors": source.loop.errors,
        "callback_errors": source.callback_errors,
        "last_error": source.loop.last_error or source.last_error,
    }


def _outbox(outbox: Outbox, set_aside: Path | None) -> dict[str, Any]:
    return {
        "depth": outbox.depth,
        "waiting": outbox.waiting,
        "oldest_s": round(outbox.oldest_age_s(), 3),
        "epoch": outbox.epoch,
        "last_seq": outbox.last_seq,
        "dropped": dict(outbox.dropped),
        "trouble": outbox.trouble,
        "set_aside": str(set_aside or ""),
    }


def _master(now: float, delivery: Delivery) -> dict[str, Any]:
    sender, link = delivery.sender, delivery.link
    push, sub = link.address
    return {
        "name": sender.master,
        "address": str(push),
        "ack_address": str(sub),
        "connected": link.connected,
        "subscribed": link.subscribed,
        "diagnosis": delivery.diagnosis.text,
        "diagnosis_kind": delivery.diagnosis.kind,
        "heard_age_s": _age(now, delivery.heard_at),
        "seen_age_s": _age(now, sender.seen_at),
        "interval_s": sender.interval_s,
        "in_flight": sender.in_flight,
        "credit": sender.credit,
        "resends": sender.resends,
        "frames": link.frames,
        "acknowledgements": link.acknowledgements,
        "bad_acknowledgements": dict(link.bad_acknowledgements),
    }


def _age(now: float, at: float | None) -> float | None:
    return None if at is None else round(now - at, 3)
