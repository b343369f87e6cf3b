"""One call of the panel, as the account in `vmwatch-master.conf`."""

from contextlib import closing
from pathlib import Path
from typing import Any

from vmwatch.shared.conffile import load
from vmwatch.shared.panelclient import PanelCalls
from vmwatch.shared.paths import Paths
from vmwatch.shared.settings import MasterSettings

MASTER = "vmwatch-master"


class PanelAccount:
    """Where the panel is and who calls it, read afresh for each call: both may change."""

    def __init__(self, prefix: Path) -> None:
        self._config = Paths(prefix, MASTER).config

    def call(self, func: str, timeout_s: float, **parameters: str) -> dict[str, Any]:
        """`doc` of the answer to a POST. Raises PanelError, or ConfigurationError for the master's file."""
        told = load(self._config, MasterSettings).settings
        calls = PanelCalls(
            told.panel_url, told.panel_user, told.panel_password, ca=told.panel_ca, timeout_s=timeout_s
        )
        with closing(calls):
            return calls.change(func, **parameters)
