"""What is said of a machine as a whole, and the folders that follow from it."""

from pathlib import Path

import pytest

from vmwatch.shared import hostfile
from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.hostfile import EXTERNAL, HostSettings, load
from vmwatch.shared.paths import PREFIX_VARIABLE, Paths


def test_without_the_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load(tmp_path / "vmwatch") == HostSettings("embedded", "/usr/local/mgr5")


def test_the_file_names_the_panel_and_the_prefix(tmp_path: Path) -> None:
    path = tmp_path / "vmwatch"
    path.write_text("# ours\npanel=external\nprefix=/srv/vmwatch\nFOREIGN=1\n")
    assert load(path) == HostSettings(EXTERNAL, "/srv/vmwatch")


@pytest.mark.parametrize(
    ("line", "named"),
    [("panel=both", "embedded, external"), ("prefix=srv", "absolute path"), ("prefix=/a b", "absolute path")],
)
def test_a_wrong_value_is_named_with_its_line_and_what_is_allowed(tmp_path: Path, line: str, named: str) -> None:
    path = tmp_path / "vmwatch"
    path.write_text(f"{line}\n")
    with pytest.raises(ConfigurationError) as error:
        load(path)
    assert f"{path}:1: " in str(error.value)
    assert named in str(error.value)


def test_a_prefix_has_etc_and_var_of_its_own() -> None:
    paths = Paths.of("vmwatch-node", "/srv/vmwatch")
    assert paths.config == Path("/srv/vmwatch/etc/vmwatch-node.conf")
    assert paths.socket == Path("/srv/vmwatch/var/run/vmwatch-node.sock")
    assert paths.conf_d == Path("/srv/vmwatch/conf.d")


def test_the_root_as_a_prefix_means_the_systems_own_folders() -> None:
    paths = Paths.of("vmwatch-node", "/")
    assert paths.config == Path("/etc/vmwatch/vmwatch-node.conf")
    assert paths.database == Path("/var/lib/vmwatch/vmwatch-node.db")
    assert paths.conf_d == Path("/etc/vmwatch/conf.d")


def test_an_option_comes_before_the_environment_and_that_before_the_machines_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vmwatch"
    path.write_text("prefix=/of/machine\n")
    monkeypatch.setattr(hostfile, "load", lambda: load(path))
    monkeypatch.delenv(PREFIX_VARIABLE, raising=False)
    assert Paths.of("vmwatch-node").prefix == Path("/of/machine")
    monkeypatch.setenv(PREFIX_VARIABLE, "/of/environment")
    assert Paths.of("vmwatch-node").prefix == Path("/of/environment")
    assert Paths.of("vmwatch-node", "/of/option").prefix == Path("/of/option")
