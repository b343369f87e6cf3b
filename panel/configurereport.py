"""What came of configuring: part by part, as answers, pages and problems show it. No I/O."""

from collections.abc import Callable
from dataclasses import dataclass

MASTER = "vmwatch-master"

Say = Callable[[str, str], None]
"""(part, line of progress); a part is MASTER or a node's name."""


@dataclass(frozen=True)
class Part:
    """One service's end. `name`: MASTER or the node. `counts`: a failure of it is a problem."""

    name: str
    ok: bool
    text: str
    counts: bool = True


@dataclass(frozen=True)
class Report:
    """All parts of one run."""

    parts: tuple[Part, ...]

    @property
    def ok(self) -> bool:
        return all(part.ok for part in self.parts)

    @property
    def text(self) -> str:
        """One sentence, for the log of a problem's attempts."""
        failed = [f"{part.name}: {part.text}" for part in self.parts if not part.ok]
        return "; ".join(failed) or f"{len(self.parts)} configured, all work"


def firewall_command(firewall: str, ports: list[int]) -> str:
    """What lets nodes in on the master's host, for who wants to run it; it is only ever printed."""
    listed = sorted(set(ports))
    if firewall == "firewalld":
        added = " ".join(f"--add-port={port}/tcp" for port in listed)
        return f"firewall-cmd --permanent {added} && firewall-cmd --reload"
    return f"nft insert rule inet filter input tcp dport {{ {', '.join(map(str, listed))} }} accept"


def port_advice(ports: dict[str, str], firewall: str) -> str:
    """What a node's look at the master's two ports says; empty if both are open."""
    closed = {address: result for address, result in ports.items() if result != "open"}
    if not closed:
        return ""
    told = ", ".join(f"{address} {result}" for address, result in closed.items())
    command = firewall_command(firewall, [int(address.rpartition(":")[2]) for address in closed])
    return f"from the node: {told}; if a firewall on the master's host does that: {command}"
