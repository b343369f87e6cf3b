"""`etc/vmmgr.conf`: what it may hold, and how a mistake is told."""

from pathlib import Path

import pytest

from vmwatch.panel.settings import PanelSettings, load
from vmwatch.shared.errors import ConfigurationError


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "vmmgr.conf"
    path.touch(mode=0o600)
    return path


def test_a_missing_file_means_the_defaults_and_a_warning(tmp_path: Path) -> None:
    loaded = load(tmp_path / "none.conf", required=False)
    assert loaded.settings == PanelSettings()
    assert "does not exist" in loaded.warnings[0]


def test_a_missing_file_that_was_named_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / "none.conf")


def test_all_names_and_options_are_read(conf: Path) -> None:
    conf.write_text(
        "# the panel\n\nPanelListen [::1]:8443\nPanelDatabase sqlite:////var/lib/p.db\nEventRetentionDays 7\n"
        "StatsRetentionDays 2\nOption AuthinfoInUrl\n"
    )
    settings = load(conf).settings
    assert (settings.panel_listen.host, settings.panel_listen.port) == ("::1", 8443)
    assert settings.panel_database == "sqlite:////var/lib/p.db"
    assert (settings.event_retention_days, settings.stats_retention_days) == (7, 2)
    assert settings.authinfo_in_url
    assert not settings.allow_plain_http


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("PanelListen 127.0.0.1", "PanelListen: '127.0.0.1' is not allowed; IP:port is"),
        ("PanelListen localhost:1500", "IP:port is"),
        ("EventRetentionDays 0", "EventRetentionDays: '0' is not allowed; a whole number from 1"),
        ("StatsRetentionDays ten", "a whole number from 1"),
        ("PanelDatabase postgresql://u:secret@h/d", "PanelDatabase: postgresql is not supported in this version"),
        ("PanelDatabase sqlite:///relative.db", "has no absolute path"),
        ("PanelKey relative.pem", "an absolute path is"),
        ("PanelKey /nowhere/key.pem", "cannot be read"),
        ("VmwatchListenIp master", "an IP address is"),
        ("PanelListen", "not `Name Value`"),
        ("PanelListen 10.0.0.1:1500", "without TLS would send passwords in clear"),
    ],
)
def test_a_bad_line_is_an_error_that_names_file_line_and_what_is_allowed(conf: Path, line: str, told: str) -> None:
    conf.write_text(f"# first\n{line}\n")
    with pytest.raises(ConfigurationError) as error:
        load(conf)
    assert str(error.value).startswith(f"{conf}:2: ")
    assert told in str(error.value)
    assert "secret" not in str(error.value)


def test_a_name_set_twice_is_an_error(conf: Path) -> None:
    conf.write_text("EventRetentionDays 7\nEventRetentionDays 8\n")
    with pytest.raises(ConfigurationError, match=":2: EventRetentionDays: is set a second time"):
        load(conf)


def test_a_certificate_without_its_key_is_an_error(conf: Path, tmp_path: Path) -> None:
    pem = tmp_path / "c.pem"
    pem.touch()
    conf.write_text(f"PanelCertificate {pem}\n")
    with pytest.raises(ConfigurationError, match="PanelKey: is missing"):
        load(conf)


def test_plain_http_on_another_address_needs_the_option_and_is_a_warning(conf: Path) -> None:
    conf.write_text("PanelListen 10.0.0.1:1500\nOption AllowPlainHttp\n")
    assert "in clear" in load(conf).settings.warnings()[0]


def test_unknown_names_and_options_are_warnings(conf: Path) -> None:
    conf.write_text("Nonsense 1\nOption Nonsense\nVmwatchListenPort 1600\n")
    warnings = load(conf).warnings
    assert [warning.partition(": ")[2] for warning in warnings] == [
        "unknown name 'Nonsense' is ignored",
        "unknown option 'Nonsense' is ignored",
    ]
