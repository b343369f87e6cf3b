"""A service's file that root writes for its user: the user's afterwards, and nobody else's way to root's files."""

import os
from pathlib import Path

import pytest

from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.servicefile import good_path, place
from vmwatch.shared.serviceuser import User
from vmwatch.shared.settings import NodeSettings

OWNER = User("64001", 64001, 64002, frozenset({64002}))
VALUES = {"connect": "tcp://127.0.0.1:1515", "node_id": "kvm-01", "secret": "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vmwatch-node.conf"


def owner_of(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid, found.st_mode & 0o777


def test_what_root_writes_is_the_users_and_stays_so(path: Path) -> None:
    assert place(path, NodeSettings, VALUES, owner=OWNER).written
    assert owner_of(path) == (64001, 64002, 0o600)
    assert place(path, NodeSettings, VALUES | {"node_id": "kvm-02"}, owner=OWNER).written
    assert owner_of(path) == owner_of(good_path(path)) == (64001, 64002, 0o600)
    assert not place(path, NodeSettings, VALUES | {"node_id": "kvm-02"}, owner=OWNER).written


def test_a_file_of_roots_is_given_to_the_user(path: Path) -> None:
    place(path, NodeSettings, VALUES)
    assert owner_of(path)[0] == 0
    assert place(path, NodeSettings, VALUES, owner=OWNER).written
    assert owner_of(path) == (64001, 64002, 0o600)


@pytest.mark.parametrize("end", ["", ".good"])
@pytest.mark.parametrize("kind", ["symlink", "hardlink", "pipe", "foreign"])
def test_what_somebody_else_has_put_there_is_not_read_and_the_mistake_is_named(
    path: Path, end: str, kind: str
) -> None:
    secret, put = path.with_name("secret"), path.with_name(f"{path.name}{end}")
    secret.write_text("root:$6$hash:1::::::\n")
    if kind == "symlink":
        put.symlink_to(secret)
    elif kind == "hardlink":
        put.hardlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(put)
    else:
        put.write_text("node_id=other\n")
        os.chown(put, 64009, 64009)
    with pytest.raises(ConfigurationError, match=f"{put.name}: (is no file of its own|belongs to 64009)"):
        place(path, NodeSettings, VALUES, owner=OWNER)
    assert not path.with_name(f"{path.name}.bad").exists()
