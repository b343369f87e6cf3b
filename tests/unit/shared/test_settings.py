"""Configuration files: each mistake is named with file, line, name and what is allowed (design 04, *Files*)."""

from pathlib import Path

import pytest

from vmwatch.shared import conffile
from vmwatch.shared.endpoints import Endpoint
from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.keys import node_key
from vmwatch.shared.settings import MasterSettings, NodeSettings, parse_service_manager

SECRET = "A" * 32


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "test.conf"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("name", ["vmwatch-master", "vmwatch-panel", "a b", "a" * 65])
def test_a_node_has_no_name_that_stands_for_something_else(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, f"connect=tcp://10.0.0.1:1515\nsecret={SECRET}\nnode_id={name}\n")
    with pytest.raises(ConfigurationError, match="and not vmwatch-master or vmwatch-panel, is") as caught:
        conffile.load(path, NodeSettings)
    assert f"{path}:3: node_id" in str(caught.value)


@pytest.mark.parametrize("name", ["vmwatch-master1", "vmwatch-master.lan", "master", "vmwatch-node"])
def test_a_node_may_have_a_name_that_only_begins_so(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, f"connect=tcp://10.0.0.1:1515\nsecret={SECRET}\nnode_id={name}\n")
    assert conffile.load(path, NodeSettings).settings.node_id == name


def test_a_file_of_the_original_is_read_and_the_rest_has_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, f"# comment\n\nlisten=tcp://10.0.0.1:1515\nsecret={SECRET}\n")
    loaded = conffile.load(path, MasterSettings)
    assert loaded.warnings == []
    assert loaded.settings.listen == Endpoint("10.0.0.1", 1515)
    assert loaded.settings.ack_endpoint == Endpoint("10.0.0.1", 1516)
    assert loaded.settings.panel_url == "http://127.0.0.1:1500/vmmgr"
    assert loaded.settings.batch_max == 500


@pytest.mark.parametrize(
    ("line", "named", "allowed"),
    [
        ("listen=udp://1.2.3.4:5", "listen", "tcp"),
        ("listen=tcp://host:1515", "listen", "IP address"),
        ("listen=tcp://1.2.3.4", "listen", "port from 1 to 65535"),
        ("listen=tcp://1.2.3.4:99999", "listen", "port from 1 to 65535"),
        ("secret=lower case", "secret", "A-Z and 0-9"),
        ("secret=", "secret", "A-Z and 0-9"),
        ("workers=0", "workers", "1 to 64"),
        ("workers=two", "workers", "1 to 64"),
        ("disabled=true", "disabled", "yes or no"),
        ("panel_url=ftp://x", "panel_url", "http"),
        ("panel_timeout=never", "panel_timeout", "seconds from 1 to 600"),
        ("panel_timeout=nan", "panel_timeout", "seconds from 1 to 600"),
        ("batch_max=501", "batch_max", "1 to 500"),
        ("log_level=loud", "log_level", "debug, info, warning, error"),
        ("no equals sign", "not NAME=VALUE", ""),
    ],
)
def test_a_bad_value_is_an_error_with_file_line_name_and_what_is_allowed(
    tmp_path: Path, line: str, named: str, allowed: str
) -> None:
    path = written(tmp_path, f"# first\n{line}\n")
    with pytest.raises(ConfigurationError) as caught:
        conffile.load(path, MasterSettings)
    mistake = next(text for text in str(caught.value).splitlines() if text.startswith(f"{path}:2: "))
    assert named in mistake
    assert allowed in mistake


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "workers=0\nlisten=x\n")
    with pytest.raises(ConfigurationError) as caught:
        conffile.load(path, MasterSettings)
    text = str(caught.value)
    assert f"{path}:1: workers" in text
    assert f"{path}:2: listen" in text
    assert "secret: is missing and required" in text


def test_a_secret_never_stands_in_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, "secret=Sup3rSecretButLowerCase\n")
    with pytest.raises(ConfigurationError) as caught:
        conffile.load(path, MasterSettings)
    assert "Sup3r" not in str(caught.value)


def test_an_unknown_name_and_one_that_has_no_effect_yet_are_warnings(tmp_path: Path) -> None:
    path = written(tmp_path, f"secret={SECRET}\ncolour=red\nmetrics_listen=127.0.0.1:9\n")
    warnings = conffile.load(path, MasterSettings).warnings
    assert any(f"{path}:2: unknown name 'colour'" in warning for warning in warnings)
    assert any(f"{path}:3: metrics_listen is not effective yet" in warning for warning in warnings)


def test_a_name_set_twice_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, f"secret={SECRET}\nworkers=1\nworkers=2\n")
    with pytest.raises(ConfigurationError, match=":3: workers: is set a second time"):
        conffile.load(path, MasterSettings)


def test_a_file_that_others_can_read_is_a_warning_that_names_the_mode(tmp_path: Path) -> None:
    path = written(tmp_path, f"secret={SECRET}\n", mode=0o644)
    assert any("0644" in warning for warning in conffile.load(path, MasterSettings).warnings)


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.conf.*No such file"):
        conffile.load(tmp_path / "missing.conf", MasterSettings)


def test_a_file_that_is_not_text_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "test.conf"
    path.write_bytes(b"# fine\nsecret=\xff\n")
    with pytest.raises(ConfigurationError, match=r":2: not UTF-8"):
        conffile.load(path, MasterSettings)


def test_a_short_secret_and_a_public_address_are_warnings() -> None:
    found = MasterSettings(secret="SHORT", listen=Endpoint("8.8.8.8", 1515)).warnings()
    assert any("secret" in text for text in found)
    assert any("public" in text for text in found)
    assert MasterSettings(secret=SECRET, listen=Endpoint("10.0.0.1", 1515)).warnings() == []


def test_one_address_for_messages_and_acknowledgements_is_an_error() -> None:
    with pytest.raises(ValueError, match="ack_listen"):
        MasterSettings(secret=SECRET, listen=Endpoint("10.0.0.1", 5), ack_listen=Endpoint("10.0.0.1", 5))


def test_a_node_needs_a_secret_or_a_key_of_its_own() -> None:
    connect = (Endpoint("10.0.0.1", 1515),)
    with pytest.raises(ValueError, match="secret or node_key"):
        NodeSettings(connect=connect, node_id="a")
    assert NodeSettings(connect=connect, node_id="a", secret=SECRET).key == node_key(SECRET, "a")
    assert NodeSettings(connect=connect, node_id="a", node_key=b"k" * 32).key == b"k" * 32


def test_a_node_with_several_masters_subscribes_beside_each(tmp_path: Path) -> None:
    text = f"connect=tcp://10.0.0.1:1515, tcp://[fd00::1]:2000\nsecret={SECRET}\nnode_id=kvm-01\n"
    settings = conffile.load(written(tmp_path, text), NodeSettings).settings
    assert [(str(push), str(sub)) for push, sub in settings.masters] == [
        ("tcp://10.0.0.1:1515", "tcp://10.0.0.1:1516"),
        ("tcp://[fd00::1]:2000", "tcp://[fd00::1]:2001"),
    ]


@pytest.mark.parametrize("node_id", ["", "a b", "ü", "x" * 65, "a/b"])
def test_a_node_id_out_of_its_alphabet_is_an_error(tmp_path: Path, node_id: str) -> None:
    path = written(tmp_path, f"connect=tcp://10.0.0.1:1515\nsecret={SECRET}\nnode_id={node_id}\n")
    with pytest.raises(ConfigurationError, match=":3: node_id"):
        conffile.load(path, NodeSettings)


def test_the_session_uri_is_a_warning() -> None:
    settings = NodeSettings(
        connect=(Endpoint("10.0.0.1", 1515),), node_id="a", secret=SECRET, libvirt_uri="qemu:///session"
    )
    assert any("only this user's VMs" in text for text in settings.warnings())


def test_a_written_file_is_private_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "vmwatch-master.conf"
    conffile.write(path, {"secret": SECRET, "workers": "3"})
    assert path.stat().st_mode & 0o777 == 0o600
    assert conffile.load(path, MasterSettings).settings.workers == 3
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["supervisord", "supervisord:/run/supervisor.sock", "systemd", "sysv"])
def test_each_service_manager_can_be_named(name: str) -> None:
    assert parse_service_manager(name) == name


@pytest.mark.parametrize("name", ["openrc", "systemd:/run", "sysv:", "supervisord:relative", "Systemd"])
def test_another_service_manager_is_an_error_that_says_which_are_allowed(name: str) -> None:
    with pytest.raises(ValueError, match="systemd and sysv are"):
        parse_service_manager(name)
