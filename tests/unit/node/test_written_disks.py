"""Which disks and network cards a definition has: every kind of disk that libvirt's formatdomain page knows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.node.disks import DISKS_MOST, MAX_XML_CHARACTERS, DefinitionError, parse
from vmwatch.node.mounts import Mounts
from vmwatch.node.mounts import parse as parse_mounts
from vmwatch.node.places import Places
from vmwatch.shared.messages import Disk

HERE = "machine:1"
TABLE = "27 1 254:0 / / rw - ext4 /dev/vda rw\n40 27 0:50 / /nas rw - nfs4 nas:/export rw\n"
PLACES = Places(HERE, Mounts(parse_mounts(TABLE), lambda path: None))


def domain(devices: str) -> str:
    return f"<domain type='kvm' id='3'><name>web</name><devices>{devices}</devices></domain>"


def disks(devices: str) -> list[Disk]:
    return parse(domain(devices), PLACES)[0]


def disk(source: str, kind: str, device: str = "disk", more: str = "") -> str:
    return f"<disk type='{kind}' device='{device}'>{source}<target dev='vda' bus='virtio'/>{more}</disk>"


@pytest.mark.parametrize(
    ("kind", "source", "found"),
    [
        ("file", "<source file='/var/lib/a.img' index='2'/>", Disk("/var/lib/a.img", HERE)),
        ("file", "<source file='/nas/vm/a.img' startupPolicy='optional'/>", Disk("vm/a.img", "nas:/export")),
        ("file", "<source file='/a &amp; b&#x20AC;.img'/>", Disk("/a & b€.img", HERE)),
        ("block", "<source dev='/dev/vg/web'><reservations managed='yes'/></source>", Disk("/dev/vg/web", HERE)),
        ("block", "<source dev='/dev/disk/by-id/wwn-0x5000c500155a7e10'/>",
         Disk("/dev/disk/by-id/wwn-0x5000c500155a7e10", "")),
        ("dir", "<source dir='/nas/files'/>", Disk("files", "nas:/export")),
        ("volume", "<source pool='blk-pool0' volume='blk-pool0-vol0'/>",
         Disk("volume:blk-pool0/blk-pool0-vol0", HERE)),
        ("nvme", "<source type='pci' managed='yes' namespace='1'><address domain='0x0000' bus='0x01' slot='0x00'"
         " function='0x0'/></source>", Disk("nvme:0000:01:00.0/1", HERE)),
        ("vhostuser", "<source type='unix' path='/tmp/vhost-blk.sock'><reconnect enabled='yes' timeout='10'/></source>",
         Disk("vhostuser:/tmp/vhost-blk.sock", HERE)),
        ("vhostvdpa", "<source dev='/dev/vhost-vdpa-0'/>", Disk("/dev/vhost-vdpa-0", HERE)),
        ("a newer one", "<source file='/a.img'/>", None),
    ],
)  # fmt: skip
def test_each_type_of_disk(kind: str, source: str, found: Disk | None) -> None:
    assert disks(disk(source, kind)) == ([] if found is None else [found])


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("<source protocol='rbd' name='pool/image'><host name='mon2' port='6789'/><host name='Mon1' port='6321'/>"
         "<auth username='u'><secret type='ceph' usage='x'/></auth></source>",
         Disk("rbd:pool/image", "mon1:6321,mon2")),
        ("<source protocol='rbd' name='pool/image'><config file='/etc/ceph/ceph.conf'/></source>",
         Disk("rbd:pool/image", HERE)),
        ("<source protocol='rbd' name='p/i'><host name='m'/><snapshot name='s'/></source>", Disk("rbd:p/i@s", "m")),
        ("<source protocol='iscsi' name='iqn.2013-07.com.example:pool/1'><host name='san' port='3260'/></source>",
         Disk("iscsi:iqn.2013-07.com.example:pool/1", "san")),
        ("<source protocol='iscsi' name='iqn.2013-07.com.example:pool'><host name='san'/><initiator>"
         "<iqn name='iqn.x'/></initiator></source>", Disk("iscsi:iqn.2013-07.com.example:pool/0", "san")),
        ("<source protocol='nbd' name='export'><host name='store' port='10809'/></source>",
         Disk("nbd:export", "store")),
        ("<source protocol='nbd'><host transport='unix' socket='/run/nbd.sock'/></source>",
         Disk("nbd:", f"{HERE}:/run/nbd.sock")),
        ("<source protocol='nbd' name='x'><host name='localhost' port='1234'/></source>",
         Disk("nbd:x", f"{HERE}:1234")),
        ("<source protocol='gluster' name='gv0/a.img'><host transport='rdma' name='g1'/></source>",
         Disk("gluster:gv0/a.img", "g1")),
        ("<source protocol='sheepdog' name='image'/>", Disk("sheepdog:image", HERE)),
        ("<source protocol='vxhs' name='eb90327c-8302-4725-9e1b'><host name='192.168.0.1' port='9999'/></source>",
         Disk("vxhs:eb90327c-8302-4725-9e1b", "192.168.0.1")),
        ("<source protocol='nfs' name='/export/a.img'><host name='nas'/><identity user='n'/></source>",
         Disk("nfs:export/a.img", "nas")),
        ("<source protocol='ssh' name='a.img'><host name='h' port='2222'/></source>", Disk("ssh:a.img", "h:2222")),
        ("<source protocol='https' name='a.iso' query='x=1'><host name='h' port='443'/></source>", None),
        ("<source protocol='tftp' name='a.iso'><host name='h'/></source>", None),
        ("<source protocol='rbd'/>", None),
    ],
)  # fmt: skip
def test_each_protocol_of_a_network_disk(source: str, found: Disk | None) -> None:
    assert disks(disk(source, "network")) == ([] if found is None else [found])


FILE = "<source file='/a.img'/>"
A = Disk("/a.img", HERE)


@pytest.mark.parametrize(
    ("element", "found"),
    [
        (disk(FILE, "file", more="<readonly/>"), []),
        (disk(FILE, "file", more="<shareable/>"), []),
        (disk(FILE, "file", more="<transient/>"), []),
        (disk(FILE, "file", more="<transient shareBacking='yes'/>"), []),
        (disk(FILE, "file", "cdrom"), []),
        (disk("", "file", "cdrom"), []),
        (disk("", "block", "floppy"), []),
        (disk("<source/>", "file"), []),
        (disk("<source file=''/>", "file"), []),
        (disk(FILE, "file", "floppy"), [A]),
        (disk(FILE, "file", "floppy", "<readonly/>"), []),
        (disk("<source dev='/dev/sdb'/>", "block", "lun"), [Disk("/dev/sdb", HERE)]),
        (f"<disk>{FILE}</disk>", [A]),
        (disk(FILE, "file") * 2, [A]),
    ],
)
def test_only_what_is_written_and_not_shared_on_purpose_counts(element: str, found: list[Disk]) -> None:
    assert disks(element) == found


def test_backing_files_and_the_target_of_a_copy_do_not_count() -> None:
    chain = "<backingStore type='file'><format type='raw'/><source file='/base.img'/>" * 150
    chain += "<backingStore/>" + "</backingStore>" * 150
    mirror = "<mirror type='file' job='copy'><source file='/copy.img'/><readonly/></mirror>"
    assert disks(disk(FILE, "file", more=chain + mirror)) == [A]


def test_two_parts_of_one_device_are_two_disks() -> None:
    parts = [
        f"<source dev='/dev/sdb'><slices><slice type='storage' offset='{offset}' size='512'/></slices></source>"
        for offset in (0, 512)
    ]
    found = disks("".join(disk(part, "block") for part in parts))
    assert found == [Disk("/dev/sdb[0+512]", HERE), Disk("/dev/sdb[512+512]", HERE)]


def test_mac_addresses_of_all_kinds_of_cards_once_each() -> None:
    cards = (
        "<interface type='network'><mac address='52:54:00:AA:bb:01'/><source network='default'/></interface>"
        "<interface type='hostdev' managed='yes'><mac address='52:54:00:aa:bb:02'/></interface>"
        "<interface type='bridge'><mac address='52:54:00:aa:bb:01'/></interface>"
        "<interface type='user'/><interface type='user'><mac address='nonsense'/></interface>"
    )
    assert parse(domain(cards), PLACES) == ([], ["52:54:00:aa:bb:01", "52:54:00:aa:bb:02"])


def test_a_domain_without_devices_has_none() -> None:
    assert parse("<domain type='test'><name>x</name></domain>", PLACES) == ([], [])


def test_one_domain_does_not_fill_an_inventory() -> None:
    many = "".join(disk(f"<source file='/{number}.img'/>", "file") for number in range(10 * DISKS_MOST))
    assert disks(many) == [Disk(f"/{number}.img", HERE) for number in range(DISKS_MOST)]


class TestHostile:
    """Names and metadata may come from a tenant."""

    def test_devices_elsewhere_than_in_their_place_are_none(self) -> None:
        inside = f"<devices>{disk(FILE, 'file')}</devices>"
        xml = f"<domain><metadata><domain>{inside}</domain><x:y xmlns:x='u'>{inside}</x:y></metadata></domain>"
        assert parse(xml, PLACES) == ([], [])

    def test_metadata_as_deep_as_it_likes_hide_nothing(self) -> None:
        deep = "<a>" * 50_000 + "</a>" * 50_000
        xml = f"<domain><metadata>{deep}</metadata><devices>{disk(FILE, 'file')}</devices></domain>"
        assert parse(xml, PLACES)[0] == [A]

    @pytest.mark.parametrize(
        "xml",
        [
            "",
            "no xml",
            "<domain><devices></domain>",
            "<network/>",
            "<domain>&undefined;</domain>",
            "<!DOCTYPE domain [<!ENTITY a 'aaaa'>]><domain>&a;</domain>",
            "<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><domain><devices>&a;</devices></domain>",
            "<!DOCTYPE domain SYSTEM 'http://localhost/x.dtd'><domain/>",
            "<domain>\ud800</domain>",
            "<domain>" + "x" * MAX_XML_CHARACTERS + "</domain>",
        ],
    )
    def test_what_libvirt_never_writes_is_an_error_and_no_crash(self, xml: str) -> None:
        with pytest.raises(DefinitionError):
            parse(xml, PLACES)

    def test_a_bomb_of_entities_is_refused_before_it_grows(self) -> None:
        entities = "".join(f"<!ENTITY e{n + 1} '{f'&e{n};' * 10}'>" for n in range(1, 12))
        with pytest.raises(DefinitionError, match="document type"):
            parse(f"<!DOCTYPE domain [<!ENTITY e1 'ha'>{entities}]><domain>&e12;</domain>", PLACES)

    def test_a_name_of_markup_is_a_name(self) -> None:
        assert disks(disk("<source file='/&lt;readonly/&gt;.img'/>", "file")) == [Disk("/<readonly/>.img", HERE)]

    @given(
        attributes=st.dictionaries(
            st.sampled_from(("file", "dev", "protocol", "name", "pool", "volume", "path", "namespace")),
            st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="<&'\ufffe\uffff")),
        ),
        kind=st.sampled_from(("file", "block", "dir", "network", "volume", "nvme", "vhostuser")),
        inside=st.sampled_from(("", "<host/>", "<host name=''/>", "<address/>", "<address bus='x'/>", "<slices/>")),
    )
    def test_any_attributes_are_a_disk_or_none(self, attributes: dict[str, str], kind: str, inside: str) -> None:
        source = " ".join(f"{name}='{value}'" for name, value in attributes.items())
        for found in disks(disk(f"<source {source}>{inside}</source>", kind)):
            assert found.path
