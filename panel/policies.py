"""The cluster's policies: their names, values and meanings, as they are stored and edited (design 03, *Functions*)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vmwatch.panel.activity import Policy
from vmwatch.panel.convention import Params, bad_value

WEEK_S = 7 * 86400
EXEMPT_LENGTH = 20_000
"""Characters: some hundreds of UUIDs."""


@dataclass(frozen=True)
class Setting:
    """One policy. `read` takes its new value out of a call's parameters, or raises ApiError."""

    name: str
    default: str
    meaning: str
    read: Callable[[Params, str], str]


def _switch(params: Params, name: str) -> str:
    params.required(name)
    return params.one_of(name, ("on", "off"))


def _seconds(params: Params, name: str) -> str:
    params.required(name)
    return str(params.whole(name, 0, WEEK_S))


def _exempt(params: Params, name: str) -> str:
    text = params.get(name)
    if len(text) > EXEMPT_LENGTH:
        raise bad_value(name, f"UUIDs and names of VMs, {EXEMPT_LENGTH} characters of them, are allowed", text)
    return ", ".join(dict.fromkeys(_split(text)))


def _split(text: str) -> list[str]:
    return [part for part in (word.strip() for word in text.split(",")) if part]


SETTINGS = (
    Setting(
        "check_vm_activity",
        "off",
        "on: warn of running VMs that sent no packet, or wrote nothing to disk, through the whole window",
        _switch,
    ),
    Setting(
        "activity_window", "0", f"seconds without any to warn of, up to {WEEK_S}; 0: one statistics interval", _seconds
    ),
    Setting("activity_min_running", "0", f"seconds that a VM has to run first, up to {WEEK_S}", _seconds),
    Setting("activity_exempt", "", "UUIDs or names of VMs never warned of, comma-separated", _exempt),
)


def values_of(stored: Mapping[str, str]) -> dict[str, str]:
    """All policies, those that nobody has set with their default."""
    return {setting.name: stored.get(setting.name, setting.default) for setting in SETTINGS}


def changes_of(params: Params) -> dict[str, str]:
    """The policies that a call sets. Raises ApiError that names the one that is wrong and what is allowed."""
    return {setting.name: setting.read(params, setting.name) for setting in SETTINGS if setting.name in params}


def policy_of(stored: Mapping[str, str]) -> Policy:
    """What the activity check goes by."""
    values = values_of(stored)
    return Policy(
        enabled=values["check_vm_activity"] == "on",
        window_s=float(values["activity_window"]),
        min_running_s=float(values["activity_min_running"]),
        # a UUID is compared as libvirt writes it
        exempt=frozenset(_split(values["activity_exempt"]) + _split(values["activity_exempt"].lower())),
    )
