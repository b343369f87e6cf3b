"""Whether a node whose file somebody else writes runs with what that file is to say: told by its heartbeats."""

from pathlib import Path

import msgspec
from msgspec import Struct

from vmwatch.panel.configureplan import Values, values_text
from vmwatch.panel.functions import Panel
from vmwatch.panel.store import Host
from vmwatch.panel.watch import NO_LIFE
from vmwatch.shared import conffile
from vmwatch.shared.settings import NodeSettings


class _Heartbeat(Struct):
    """What is read of a heartbeat's status."""

    settings: str = ""


_heartbeat = msgspec.json.Decoder(_Heartbeat)


def drifted(panel: Panel, host: Host, values: Values) -> str:
    """A sentence that says so; empty if it runs with them, or if that is not known: it does not speak, or is older."""
    row = panel.board.node_named(host.name)
    if row is None or host.reach != "manual" or row.doubt == NO_LIFE:
        return ""
    try:
        told = _heartbeat.decode(row.status).settings
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # the status may be anything: the node's own
        return ""
    wanted = conffile.parse(Path(host.name), values_text(values), NodeSettings).settings.mark
    return "" if told in ("", wanted) else "DRIFT: it runs with other settings than its file is to say; "
