"""`/etc/default/vmwatch`: what an administrator says of a machine as a whole; packages and all programs read it."""

from dataclasses import dataclass
from pathlib import Path

from vmwatch.shared import conffile
from vmwatch.shared.conffile import setting

HOST_FILE = Path("/etc/default/vmwatch")
DEFAULT_PREFIX = "/usr/local/mgr5"
EMBEDDED, EXTERNAL = "embedded", "external"


def parse_prefix(text: str) -> str:
    """An absolute path without blanks; `/` stands for the system's own folders."""
    if not text.startswith("/") or len(text.split()) != 1:
        raise ValueError(f"{text!r} is not allowed; an absolute path is, or / for /etc/vmwatch and /var/lib/vmwatch")
    return text


@dataclass(frozen=True)
class HostSettings:
    """`panel`: whether the embedded panel runs here, or another one is in charge; `prefix`: where etc and var are."""

    panel: str = setting(conffile.one_of(EMBEDDED, EXTERNAL), EMBEDDED)
    prefix: str = setting(parse_prefix, DEFAULT_PREFIX)


def is_others(prefix: Path) -> bool:
    """Whether another panel is in charge of this prefix. Raises ConfigurationError."""
    host = load()
    return host.panel == EXTERNAL and Path(host.prefix) == prefix


def load(path: Path = HOST_FILE) -> HostSettings:
    """The file's settings, or the defaults where there is none. Raises ConfigurationError."""
    if not path.exists():
        return HostSettings()
    # It holds no secret, so who may read it does not matter. What it says of other names is not ours to judge.
    return conffile.parse(path, conffile.read_text(path), HostSettings).settings
