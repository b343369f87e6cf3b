"""The settings of `etc/vmmgr.conf` (design 04): one `Name Value` per line, `Option Name` for switches."""

import dataclasses
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from vmwatch.shared.conffile import Loaded, mode_warnings, read_text, setting, whole
from vmwatch.shared.endpoints import Endpoint, parse_endpoint
from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.messages import DEFAULT_PORT

FILE_NAME = "vmmgr.conf"
DEFAULT_LISTEN = Endpoint("127.0.0.1", 1500)
MAX_RETENTION_DAYS = 36_500


def parse_address(text: str) -> Endpoint:
    """`IP:port`, IPv6 in brackets."""
    try:
        return parse_endpoint(f"tcp://{text}")
    except ValueError:
        raise ValueError(f"{text!r} is not allowed; IP:port is, such as {DEFAULT_LISTEN.host}:1500") from None


def parse_ip(text: str) -> str:
    """An IP address."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is not allowed; an IP address is") from None


def parse_file(text: str) -> Path:
    """The absolute path of a file that can be read."""
    path = Path(text)
    if not path.is_absolute():
        raise ValueError(f"{text!r} is not allowed; an absolute path is")
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"{text!r} cannot be read ({error.strerror}); a file that can is allowed") from None
    return path


def parse_database(text: str) -> str:
    """A SQLAlchemy URL of a SQLite file. The text is not repeated in an error: a URL may hold a password."""
    try:
        url = make_url(text)
    except ArgumentError:
        raise ValueError("not a SQLAlchemy URL; sqlite:////absolute/path is allowed") from None
    if url.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise ValueError(f"{url.drivername} is not supported in this version; sqlite:////absolute/path is allowed")
    if not url.database or not Path(url.database).is_absolute():
        raise ValueError("has no absolute path; sqlite:////absolute/path is allowed")
    return text


def _option() -> bool:
    """A switch, set by a line `Option Name`."""
    switch: bool = dataclasses.field(default=False, metadata={"option": True})
    return switch


@dataclass(frozen=True)
class PanelSettings:
    """`etc/vmmgr.conf`: a field `panel_listen` is the file's `PanelListen`."""

    panel_listen: Endpoint = setting(parse_address, DEFAULT_LISTEN)
    panel_certificate: Path | None = setting(parse_file, None)
    panel_key: Path | None = setting(parse_file, None)
    panel_database: str = setting(parse_database, "")
    event_retention_days: int = setting(whole(1, MAX_RETENTION_DAYS), 365)
    stats_retention_days: int = setting(whole(1, MAX_RETENTION_DAYS), 30)
    vmwatch_listen_ip: str = setting(parse_ip, "")
    vmwatch_listen_port: int = setting(whole(1, 65534), DEFAULT_PORT)
    allow_plain_http: bool = _option()
    authinfo_in_url: bool = _option()

    def __post_init__(self) -> None:
        if (self.panel_certificate is None) != (self.panel_key is None):
            missing = "PanelKey" if self.panel_key is None else "PanelCertificate"
            raise ValueError(f"{missing}: is missing; PanelCertificate and PanelKey are allowed only together")
        if not (self.tls or self.allow_plain_http or self.panel_listen.address.is_loopback):
            raise ValueError(
                f"PanelListen: {self.panel_listen.host} without TLS would send passwords in clear; a loopback address,"
                " or PanelCertificate and PanelKey, or Option AllowPlainHttp is allowed"
            )

    @property
    def tls(self) -> bool:
        return self.panel_certificate is not None

    @property
    def disabled(self) -> bool:
        """A panel has no such switch; every service's settings have the question."""
        return False

    @property
    def log_level(self) -> str:
        return "info"

    def warnings(self) -> list[str]:
        """What works and is still worth a word to the operator."""
        found = []
        if not self.tls and not self.panel_listen.address.is_loopback:
            found.append(f"PanelListen: {self.panel_listen.host} without TLS sends passwords in clear")
        if self.authinfo_in_url:
            found.append("Option AuthinfoInUrl: passwords in addresses end up in the logs of proxies and browsers")
        return found


def file_name_of(field: str) -> str:
    """`panel_listen` -> `PanelListen`."""
    return "".join(part.capitalize() for part in field.split("_"))


def load(path: Path, *, required: bool = True) -> Loaded[PanelSettings]:
    """Read the panel's file; one that is missing means the defaults, unless it is `required`.

    Raises ConfigurationError that names file, line, name and what is allowed; all mistakes at once, one a line.
    """
    if not required and not path.exists():
        return Loaded(PanelSettings(), [f"{path} does not exist; the defaults apply"])
    reading = _Reading(path)
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            reading.take(number, line)
    if reading.mistakes:
        raise ConfigurationError("\n".join(reading.mistakes))
    try:
        return Loaded(PanelSettings(**reading.values), mode_warnings(path) + reading.warnings)
    except ValueError as error:  # what one name allows may depend on another: checked by the dataclass
        raise ConfigurationError(reading.placed(str(error))) from None


class _Reading:
    """What was found in the file so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, int] = {}
        fields = dataclasses.fields(PanelSettings)
        self._names = {file_name_of(field.name): field for field in fields if "parse" in field.metadata}
        self._options = {file_name_of(field.name): field for field in fields if "option" in field.metadata}
        self.values: dict[str, Any] = {}
        self.mistakes: list[str] = []
        self.warnings: list[str] = []

    def take(self, number: int, line: str) -> None:
        where = f"{self._path}:{number}"
        name, _, value = line.strip().partition(" ")
        value = value.strip()
        if not value:
            self.mistakes.append(f"{where}: not `Name Value` or `Option Name`")
        elif name == "Option":
            self._take_option(where, value)
        elif name not in self._names:
            self.warnings.append(f"{where}: unknown name {name!r} is ignored")
        elif name in self._lines:
            self.mistakes.append(f"{where}: {name}: is set a second time; one line per name is allowed")
        else:
            self._lines[name] = number
            self._take_value(where, name, value)

    def placed(self, mistake: str) -> str:
        """A mistake that names a setting, with the line where that is set."""
        line = self._lines.get(mistake.partition(":")[0])
        return f"{self._path}:{line}: {mistake}" if line else f"{self._path}: {mistake}"

    def _take_option(self, where: str, name: str) -> None:
        if name in self._options:
            self.values[self._options[name].name] = True
        else:
            self.warnings.append(f"{where}: unknown option {name!r} is ignored")

    def _take_value(self, where: str, name: str, value: str) -> None:
        field = self._names[name]
        if not field.metadata["effective"]:
            self.warnings.append(f"{where}: {name} is not effective yet in this version")
        try:
            self.values[field.name] = field.metadata["parse"](value)
        except ValueError as error:
            self.mistakes.append(f"{where}: {name}: {error}")
