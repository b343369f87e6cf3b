"""Equal disks are one and the same disk: what a path means on a machine, a server or a file system."""

from pathlib import Path

import pytest

from vmwatch.node.mounts import Mounts, parse
from vmwatch.node.places import MAX_ON, Places, disk, machine_label, remote_host
from vmwatch.shared.messages import Disk

ID = "0123456789abcdef0123456789abcdef"
HERE = machine_label(ID)


def places_with(kind: str, source: str, root: str = "/", udev: Path = Path("/nowhere")) -> Places:
    table = f"27 1 254:0 / / rw - ext4 /dev/vda rw\n40 27 8:16 {root} /mnt/vms rw shared:9 - {kind} {source} rw\n"
    return Places(HERE, Mounts(parse(table), lambda path: None), udev)


class TestMachine:
    def test_its_id_is_not_revealed_and_its_label_stays_the_same(self) -> None:
        assert HERE == machine_label(ID) == "machine:1d1e59496908fe7e"
        assert ID[:8] not in HERE

    def test_another_machine_has_another_label(self) -> None:
        assert machine_label(ID.replace("0", "1")) != HERE

    @pytest.mark.parametrize(
        ("uri", "host"),
        [
            ("qemu:///system", ""),
            ("qemu+unix:///system?socket=/run/x", ""),
            ("test:///default", ""),
            ("qemu+ssh://root@kvm-2/system", "kvm-2"),
            ("qemu+tls://[fe80::5]:16514/system", "fe80::5"),
            ("qemu+tcp://localhost/system", ""),
            ("qemu+tcp://127.0.0.1/system", ""),
            ("qemu+tcp://[broken/system", ""),
        ],
    )
    def test_a_uri_may_name_another_one(self, uri: str, host: str) -> None:
        assert remote_host(uri) == host


class TestFiles:
    @pytest.mark.parametrize(
        ("kind", "source", "on"),
        [
            ("nfs", "nas:/export", "nas:/export"),
            ("nfs4", "NAS:/export/", "nas:/export"),
            ("nfs4", "nas:/", "nas:/"),
            ("nfs", "[2001:db8::5]:/export", "[2001:db8::5]:/export"),
            ("cifs", "//Filer/Share", "//filer/Share"),
            ("ceph", "mon2:6789,mon1:6789:/vms", "mon1:6789,mon2:6789:/vms"),
            ("ceph", "admin@0f3c-1.cephfs=/vms", "admin@0f3c-1.cephfs=/vms"),
            ("fuse.glusterfs", "node1:/gv0", "node1:/gv0"),
            ("lustre", "10.0.0.1@tcp:/scratch", "10.0.0.1@tcp:/scratch"),
        ],
    )
    def test_on_a_network_file_system_it_is_the_server_s(self, kind: str, source: str, on: str) -> None:
        assert places_with(kind, source).file("/mnt/vms/a/b.img") == Disk("a/b.img", on)

    @pytest.mark.parametrize("kind", ["nfs", "fuse.glusterfs"])
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
    def test_a_server_on_this_machine_is_another_one_elsewhere(self, kind: str, host: str) -> None:
        assert places_with(kind, f"{host}:/gv0").file("/mnt/vms/b.img") == Disk("b.img", f"{HERE}:/gv0")

    @pytest.mark.parametrize(
        ("kind", "source"),
        [
            ("beegfs", "beegfs_nodev"),
            ("fuse.ceph-fuse", "ceph-fuse"),
            ("virtiofs", "tag"),
            ("fuse.whatever", "nas:/export"),
            ("ext4", "nas:/export"),
            ("gfs2", "/dev/sdb"),
            ("nfs", "nas"),
        ],
    )
    def test_what_names_no_server_is_the_machine_s_own(self, kind: str, source: str) -> None:
        assert places_with(kind, source).file("/mnt/vms/b.img") == Disk("/mnt/vms/b.img", HERE)

    def test_a_part_of_a_file_system_that_is_mounted_counts_from_its_root(self) -> None:
        assert places_with("cifs", "//filer/share", "/sub").file("/mnt/vms/b.img") == Disk("sub/b.img", "//filer/share")
        assert places_with("nfs", "nas:/export").file("/mnt/vms") == Disk(".", "nas:/export")

    @pytest.mark.parametrize("kind", ["ocfs2", "gfs2"])
    def test_a_cluster_file_system_is_known_by_its_uuid(self, kind: str, tmp_path: Path) -> None:
        (tmp_path / "b8:16").write_text("I:1\nE:ID_FS_UUID=0b41-77\nE:ID_FS_UUID_ENC=0b41-77\n")
        found = places_with(kind, "/dev/sdb", udev=tmp_path).file("/mnt/vms/b.img")
        assert found == Disk("b.img", f"{kind}:0b41-77")

    def test_a_local_file_is_the_machine_s_own(self) -> None:
        assert places_with("nfs", "nas:/export").file("/var//lib/b.img") == Disk("/var/lib/b.img", HERE)

    def test_another_machine_s_mounts_are_not_looked_up_here(self) -> None:
        assert Places("machine:1", None).file("/mnt/vms/b.img") == Disk("/mnt/vms/b.img", "machine:1")

    def test_a_path_that_is_no_path_of_this_machine_stays_as_it_is(self) -> None:
        assert places_with("nfs", "nas:/export").file("[store] vm/vm.vmdk") == Disk("[store] vm/vm.vmdk", HERE)


class TestDevices:
    @pytest.mark.parametrize("path", ["/dev/vg/web", "/dev/mapper/vg-web", "/dev/sdb", "/dev/disk/by-id/ata-X_1"])
    def test_a_device_is_the_machine_s_own_under_the_name_that_people_know(self, path: str) -> None:
        assert places_with("nfs", "nas:/export").file(path) == Disk(path, HERE)

    @pytest.mark.parametrize(
        "path",
        [
            "/dev/disk/by-id/wwn-0x600140519e1d8bcc41d4a1dbfca10d5e",
            "/dev/disk/by-id/scsi-3600140519e1d8bcc41d4a1dbfca10d5e-part1",
            "/dev/disk/by-id/dm-uuid-mpath-3600140519e1d8bcc41d4a1dbfca10d5e",
            "/dev/mapper/3600140519e1d8bcc41d4a1dbfca10d5e",
            "/dev/mapper/3600140519e1d8bcc-part2",
        ],
    )
    def test_a_name_that_is_the_only_one_in_the_world_means_the_same_everywhere(self, path: str) -> None:
        assert places_with("nfs", "nas:/export").file(path) == Disk(path, "")

    @pytest.mark.parametrize("path", ["/dev/mapper/3600", "/dev/mapper/3600140519e1d8bccx"])
    def test_a_name_that_only_looks_like_one_does_not(self, path: str) -> None:
        assert places_with("nfs", "nas:/export").file(path) == Disk(path, HERE)


class TestLimits:
    def test_a_long_place_is_known_by_its_hash(self) -> None:
        made = disk("a", "x" * (MAX_ON + 1))
        assert made is not None
        assert made.on.startswith("sha256:")
        assert len(made.on) <= MAX_ON
        assert made != disk("a", "x" * (MAX_ON + 2))

    @pytest.mark.parametrize("path", ["", "x" * 4097])
    def test_a_path_that_no_message_may_have_is_no_disk(self, path: str) -> None:
        assert disk(path, "") is None
