"""The way of a path through a table of mounts, without touching what may hang."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.node.mounts import LINKS_MOST, MOUNTINFO, Mount, Mounts, parse, read_link, read_mounts

TABLE = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
24 27 0:6 / /dev rw,relatime shared:2 - devtmpfs devtmpfs rw,size=10k
27 1 254:0 / / rw,relatime shared:1 master:3 - ext4 /dev/vda rw,discard
40 27 0:50 / /mnt/nas rw,relatime shared:9 - nfs4 nas:/export rw,vers=4.2,addr=10.0.0.5
41 40 0:51 / /mnt/nas/deep rw - nfs4 other:/deep rw
42 27 0:52 / /mnt/with\040space rw - nfs nas:/a\134b rw
43 27 8:1 /images /srv/images rw - xfs /dev/sda1 rw
44 27 0:60 / /net rw - autofs auto.net rw
"""
HIDDEN = r"""
27 1 254:0 / / rw - ext4 /dev/vda rw
50 27 0:50 / /mnt/a/b rw - nfs nas:/b rw
51 27 0:51 / /mnt/a rw - xfs /dev/sdb rw
52 51 0:52 / /mnt/a rw - tmpfs tmpfs rw
"""


def source_of(mounts: Mounts, path: str) -> str:
    mount = mounts.mount_of(path)
    assert mount is not None
    return mount.source


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/", "/dev/vda"),
        ("/etc/x", "/dev/vda"),
        ("/mnt/nas", "nas:/export"),
        ("/mnt/nas/vm/a.img", "nas:/export"),
        ("/mnt/nas2/a.img", "/dev/vda"),
        ("/mnt/nas/deep/a.img", "other:/deep"),
        ("/mnt/nas/deeper/a.img", "nas:/export"),
        ("/mnt/with space/a.img", r"nas:/a\b"),
        ("/srv/images/a.img", "/dev/sda1"),
    ],
)
def test_a_path_lies_on_the_longest_mount_point(path: str, source: str) -> None:
    assert source_of(Mounts(parse(TABLE)), path) == source


def test_a_mount_that_a_later_one_hides_does_not_count() -> None:
    assert source_of(Mounts(parse(HIDDEN)), "/mnt/a/b/x") == "tmpfs"


def test_a_bind_mount_tells_which_folder_it_shows() -> None:
    mount = Mounts(parse(TABLE)).mount_of("/srv/images/a.img")
    assert mount == Mount(43, 27, "8:1", "/images", "/srv/images", "xfs", "/dev/sda1")


@given(text=st.text(alphabet="0123456789 /-:\\abc\n", max_size=200))
def test_what_is_no_mountinfo_is_left_out(text: str) -> None:
    for mount in parse(text):
        assert isinstance(mount, Mount)
    Mounts(parse(text)).locate("/a/b")


def test_without_a_table_nothing_is_certain(tmp_path: Path) -> None:
    place = read_mounts(tmp_path / "none").locate("/a/b")
    assert (place.path, place.mount) == ("/a/b", None)


class Links:
    """Symbolic links by path; whoever asks about a path below `hung` would wait for ever."""

    def __init__(self, links: dict[str, str], hung: str = "/mnt/nas") -> None:
        self.links = links
        self.hung = hung
        self.asked: list[str] = []

    def __call__(self, path: str) -> str | None:
        assert not f"{path}/".startswith(f"{self.hung}/"), f"{path} was looked at"
        self.asked.append(path)
        return self.links.get(path)


@pytest.mark.parametrize(
    ("links", "path", "located", "source"),
    [
        ({}, "/var//lib/./a.img", "/var/lib/a.img", "/dev/vda"),
        ({"/images": "/mnt/nas/vm"}, "/images/a.img", "/mnt/nas/vm/a.img", "nas:/export"),
        ({"/var/images": "../mnt/nas"}, "/var/images/a.img", "/mnt/nas/a.img", "nas:/export"),
        ({"/a": "b", "/b": "/mnt/nas"}, "/a/x", "/mnt/nas/x", "nas:/export"),
        ({"/a": "."}, "/a/x", "/x", "/dev/vda"),
        ({"/var/last": "/srv/images/a.img"}, "/var/last", "/srv/images/a.img", "/dev/sda1"),
        ({"/mnt/nas/a": "/b"}, "/mnt/nas/a/x", "/mnt/nas/a/x", "nas:/export"),
    ],
)
def test_links_of_local_file_systems_are_followed(links: dict[str, str], path: str, located: str, source: str) -> None:
    place = Mounts(parse(TABLE), Links(links)).locate(path)
    assert place.mount is not None
    assert (place.path, place.mount.source) == (located, source)


def test_a_kind_that_is_not_known_to_be_local_is_not_touched() -> None:
    Mounts(parse(TABLE), Links({}, hung="/net")).locate("/net/host/export/a.img")


def test_the_folder_above_one_that_is_not_looked_at_is_not_certain() -> None:
    place = Mounts(parse(TABLE), Links({})).locate("/mnt/nas/a/../b")
    assert (place.path, place.mount) == ("/mnt/nas/a/../b", None)


def test_links_in_a_circle_end() -> None:
    links = Links({"/a": "/b", "/b": "/a"})
    assert Mounts(parse(TABLE), links).locate("/a/x").mount is None
    assert len(links.asked) <= LINKS_MOST + 1


@pytest.mark.skipif(not MOUNTINFO.exists(), reason="needs Linux")
def test_this_machine_s_own_paths_are_found_as_the_kernel_finds_them(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    place = read_mounts().locate(str(tmp_path / "link" / "a.img"))
    assert place.mount is not None
    if read_link(str(tmp_path)) is None and place.mount.kind in ("ext4", "xfs", "btrfs", "tmpfs", "overlay"):
        assert place.path == os.path.realpath(tmp_path / "link" / "a.img")
