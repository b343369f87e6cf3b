"""SIGHUP: the configuration file again, while the panel runs."""

import logging
import ssl
from dataclasses import dataclass, fields, replace
from pathlib import Path

from vmwatch.panel.settings import PanelSettings, file_name_of, load
from vmwatch.shared.errors import ConfigurationError

log = logging.getLogger(__name__)

WHILE_RUNNING = (
    *("event_retention_days", "stats_retention_days", "authinfo_in_url"),
    *("vmwatch_listen_ip", "vmwatch_listen_port"),
)
"""The rest is part of what was made at the start: the socket, the database. TLS files are read again as they are."""


@dataclass
class Reload:
    """Where the settings came from. `tls`: the context that new connections get, None without TLS."""

    path: Path
    required: bool
    tls: ssl.SSLContext | None = None

    def again(self, current: PanelSettings) -> PanelSettings:
        """What applies from now on; a file that is wrong changes nothing. The log says which and why.

        Nor does one that is gone, although a start without it means the defaults: a file that was moved away for a
        moment must not shorten how long events are kept.
        """
        try:
            found = load(self.path)
        except (ConfigurationError, OSError) as error:
            log.error("nothing changes, the configuration is wrong: %s", error)
            return current
        for warning in found.warnings + [f"{self.path}: {text}" for text in found.settings.warnings()]:
            log.warning("%s", warning)
        names = [field.name for field in fields(current)]
        differing = [name for name in names if getattr(found.settings, name) != getattr(current, name)]
        later = [file_name_of(name) for name in differing if name not in WHILE_RUNNING]
        if later:
            log.warning("effective only after a restart: %s", ", ".join(later))
        self._renew_certificate(current)
        changes = {name: getattr(found.settings, name) for name in differing if name in WHILE_RUNNING}
        log.info("configuration read again; changed: %s", ", ".join(map(file_name_of, changes)) or "nothing")
        return replace(current, **changes)

    def _renew_certificate(self, current: PanelSettings) -> None:
        if self.tls is None or current.panel_certificate is None:
            return
        try:
            self.tls.load_cert_chain(current.panel_certificate, current.panel_key)
        except (ssl.SSLError, OSError) as error:
            log.error("the certificate stays the old one: %s", error)
