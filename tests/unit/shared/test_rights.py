"""Each mistake with a file's owner or mode is told with the file, what is wrong, and a command that mends it."""

import os
import stat
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmwatch.shared import rights
from vmwatch.shared.paths import Paths
from vmwatch.shared.rights import Rights
from vmwatch.shared.serviceuser import ACL, ACL_MASK, ACL_USER, User, become_service_user, service_user

UID, GID, SHARED = 64001, 64001, 64002
NODE = User(str(UID), UID, GID, frozenset({GID, SHARED}))
"""Under its number, so that a command can be run where there is no such name."""

FILES = (("etc/vmwatch-node.conf", 0o600), ("var/vmwatch-node.db", 0o600), ("var/vmwatch-node.log", 0o644))

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def prefix(short_path: Path) -> Path:
    """As the packages leave it."""
    for name in ("etc", "var", "var/run"):
        folder = short_path / name
        folder.mkdir()
        os.chown(folder, 0, SHARED)
        folder.chmod(0o1775)
    for name, mode in FILES:
        path = short_path / name
        path.write_text("")
        os.chown(path, UID, GID)
        path.chmod(mode)
    return short_path


def looked(prefix: Path, program: str = "vmwatch-node", strict: bool = True) -> Rights:
    paths = Paths(prefix, program)
    return rights.look(paths, paths.config, NODE, strict)


def test_what_the_packages_leave_is_right(prefix: Path) -> None:
    assert looked(prefix) == Rights()


@pytest.mark.parametrize(
    ("name", "owner", "mode", "told"),
    [
        ("etc/vmwatch-node.conf", (UID, GID), 0o640, "mode 0640 lets others read or change its secrets"),
        ("etc/vmwatch-node.conf", (UID, GID), 0o604, "mode 0604 lets others read or change its secrets"),
        ("etc/vmwatch-node.conf", (0, 0), 0o600, f"belongs to root, and {UID} may not read it"),
        ("etc/vmwatch-node.conf", (UID, GID), 0o000, f"mode 0000: {UID} may not read it"),
        ("etc/vmwatch-node.conf", (0, GID), 0o640, f"belongs to root, and {UID} must own it, as it holds secrets"),
        ("var/vmwatch-node.db", (0, 0), 0o600, f"belongs to root, and {UID} may not read and write it"),
        ("var/vmwatch-node.db", (UID, GID), 0o644, "mode 0644 lets others read or change its secrets"),
        ("var/vmwatch-node.log", (0, 0), 0o644, f"belongs to root, and {UID} may not read and write it"),
        ("var", (0, SHARED), 0o755, f"{UID} may not write into it"),
        ("var", (0, SHARED), 0o777, "mode 0777 lets everybody replace the files in it"),
        ("var/run", (0, 0), 0o755, f"{UID} may not write into it"),
        ("var/run", (UID, GID), 0o500, f"{UID} may not write into it"),
        ("var", (0, 0), 0o700, f"{UID} may not pass through it"),
        ("etc", (0, 0), 0o750, f"{UID} may not pass through it"),
    ],
)
def test_each_mistake_is_named_and_its_command_mends_it(
    prefix: Path, name: str, owner: tuple[int, int], mode: int, told: str
) -> None:
    path = prefix / name
    os.chown(path, *owner)
    path.chmod(mode)
    found = looked(prefix).mistakes
    assert [line for line in found if line.startswith(f"{path}: ") and told in line], found
    for _ in range(2):  # what was in the way of one look may hide the next mistake
        for line in looked(prefix).mistakes:
            subprocess.run(line.partition("; mend it with: ")[2], shell=True, check=True)
    assert looked(prefix) == Rights()


def test_below_a_prefix_of_ones_own_only_what_does_not_work_is_a_mistake(prefix: Path) -> None:
    (prefix / "etc" / "vmwatch-node.conf").chmod(0o644)
    assert looked(prefix, strict=False) == Rights()
    os.chown(prefix / "var" / "run", 0, 0)
    assert len(looked(prefix, strict=False).mistakes) == 1


def test_an_administrators_file_without_a_secret_may_be_read_by_all_and_changed_by_none(prefix: Path) -> None:
    conf = prefix / "etc" / "vmwatch-panel.conf"
    conf.write_text("")
    assert looked(prefix, "vmwatch-panel") == Rights()
    conf.chmod(0o664)
    assert "lets others change it" in looked(prefix, "vmwatch-panel").mistakes[0]


def test_files_that_are_not_there_are_no_mistake(short_path: Path) -> None:
    os.chown(short_path, UID, GID)
    assert looked(short_path) == Rights()


def test_without_users_of_their_own_services_run_as_whoever_starts_them(prefix: Path) -> None:
    paths = Paths(prefix, "vmwatch-node")
    assert service_user(paths) is None  # nobody of these numbers has such a name
    become_service_user(paths)
    assert os.geteuid() == 0
    assert service_user(Paths(prefix, "vmwatch-eventlistener")) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    mode=st.integers(0, 0o777),
    owner=st.sampled_from([(0, 0), (UID, GID), (0, SHARED), (64009, 64009)]),
    bits=st.sampled_from([os.R_OK, os.W_OK, os.R_OK | os.W_OK]),
)
def test_what_a_user_may_is_what_the_system_lets_him(
    short_path: Path, mode: int, owner: tuple[int, int], bits: int
) -> None:
    path = short_path / "file"
    path.write_text("")
    os.chown(path, *owner)
    path.chmod(mode)
    pid = os.fork()
    if not pid:
        os.setgroups([SHARED])
        os.setgid(GID)
        os.setuid(UID)
        os._exit(0 if os.access(path, bits) else 1)
    allowed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert NODE.may(path, bits) is allowed
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_who_is_named_in_an_access_list_may_what_it_says(prefix: Path) -> None:
    """A folder that others use stays theirs, and the packages let the services' users in by name."""
    var = prefix / "var"
    os.chown(var, 0, 0)
    var.chmod(0o755)
    assert not NODE.may(var, os.W_OK)
    nobody = 2**32 - 1
    owner, group, others = (0x01, 7, nobody), (0x04, 5, nobody), (0x20, 5, nobody)
    entries = owner, (ACL_USER, 7, UID), group, (ACL_MASK, 7, nobody), others
    try:
        os.setxattr(var, ACL, struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries))
    except OSError as error:
        pytest.skip(f"no access lists here: {error.strerror}")
    assert NODE.may(var, os.W_OK | os.X_OK)
    assert not User("other", 64009, 64009).may(var, os.W_OK)
    assert looked(prefix) == Rights()


@pytest.mark.parametrize("end", ["good", "bad"])
def test_what_is_kept_of_the_configuration_is_as_secret_and_need_not_be_writable(prefix: Path, end: str) -> None:
    path = prefix / "etc" / f"vmwatch-node.conf.{end}"
    path.write_text("")
    os.chown(path, UID, GID)
    path.chmod(0o400)
    assert looked(prefix) == Rights()
    path.chmod(0o440)
    assert f"{path}: mode 0440 lets others read" in looked(prefix).mistakes[0]
