"""Reading `vmwatch-master.conf`: for the master itself, and for who must tell whether it would start."""

from pathlib import Path

from vmwatch.shared.conffile import Loaded, load
from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.settings import MasterSettings


def load_master_settings(path: Path) -> Loaded[MasterSettings]:
    """The master's file; raises ConfigurationError also where a file that it names is not there."""
    loaded = load(path, MasterSettings)
    authority = loaded.settings.panel_ca
    if authority and not Path(authority).is_file():
        raise ConfigurationError(f"{path}: panel_ca: {authority} is no file; a file of certificates (PEM) is allowed")
    return loaded
