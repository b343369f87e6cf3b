"""Which disks and network cards a domain's definition has (https://libvirt.org/formatdomain.html)."""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from vmwatch.node.places import Places, disk
from vmwatch.shared.errors import VmwatchError
from vmwatch.shared.messages import Disk

MAX_XML_CHARACTERS = 4 * 1024 * 1024
"""A definition of a thousand disks has less than one."""
DISKS_MOST = 64
"""Of one domain; cards too. What it has beyond is left out: one domain shall not fill an inventory."""

_DEVICES_DEPTH = 2
_SLICE_DEPTH = 6
"""domain, devices, disk, source, slices, slice. Backing files and metadata may be nested as deep as they like."""
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_SET_ASIDE = ("readonly", "shareable", "transient")
"""Elements of a disk that is not written, is shared on purpose, or is written into a file of QEMU's own only."""
_NEVER_WRITTEN = frozenset(("ftp", "ftps", "http", "https", "tftp"))
"""Protocols that QEMU only reads."""
_PORTS = {"gluster": ("24007",), "iscsi": ("3260",), "nbd": ("10809",), "nfs": ("2049",), "rbd": ("6789", "3300")}
_PORTS |= {"sheepdog": ("7000",), "ssh": ("22",), "vxhs": ("9999",)}
"""A port that is the protocol's own may be written or not, and means the same."""


class DefinitionError(VmwatchError):
    """A definition that is not what libvirt writes."""


def parse(xml: str, places: Places) -> tuple[list[Disk], list[str]]:
    """The disks that a domain writes, and its MAC addresses; raises DefinitionError."""
    devices = _tree(xml).find("devices")
    if devices is None:
        return [], []
    found = (_disk(element, places) for element in devices.iterfind("disk"))
    disks = dict.fromkeys(one for one in found if one is not None)
    addresses = (element.get("address", "").lower() for element in devices.iterfind("interface/mac"))
    macs = dict.fromkeys(address for address in addresses if _MAC.fullmatch(address))
    return list(islice(disks, DISKS_MOST)), list(islice(macs, DISKS_MOST))


def _tree(xml: str) -> Element:
    """The elements of interest, without their text: those below `devices`, down to a slice of a disk's source.

    No entities: libvirt needs none, and they can be a bomb. No namespaces: prefixes of libvirt's extensions
    (`qemu:commandline`) concern nobody here.
    """
    if len(xml) > MAX_XML_CHARACTERS:
        raise DefinitionError(f"{len(xml)} characters, but {MAX_XML_CHARACTERS} are read")
    builder = TreeBuilder()
    depth = 0
    wanted = True

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, wanted
        depth += 1
        if depth == _DEVICES_DEPTH:
            wanted = tag == "devices"
        if depth == 1 or (wanted and depth <= _SLICE_DEPTH):
            builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        if depth == 1 or (wanted and depth <= _SLICE_DEPTH):
            builder.end(tag)
        depth -= 1

    def refuse(*arguments: object) -> None:
        raise DefinitionError("a document type, which libvirt never writes")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    try:
        parser.Parse(xml.encode(), True)
    except (expat.ExpatError, UnicodeEncodeError) as error:
        raise DefinitionError(str(error)) from None
    root = builder.close()
    if root.tag != "domain":
        raise DefinitionError("it is no domain")
    return root


def _disk(element: Element, places: Places) -> Disk | None:
    """The disk of a `disk` element, if it counts. A drive may be empty; a cdrom is never written."""
    source = element.find("source")
    aside = any(element.find(name) is not None for name in _SET_ASIDE)
    if source is None or aside or element.get("device") == "cdrom":
        return None
    found = _KINDS.get(element.get("type", "file"), _nothing)(source, places)
    part = source.find("slices/slice[@type='storage']")
    if found is None or part is None:
        return found
    # Two domains may well have a part each of one device.
    return disk(f"{found.path}[{part.get('offset')}+{part.get('size')}]", found.on)


def _nothing(source: Element, places: Places) -> Disk | None:
    return None


def _file(attribute: str) -> Callable[[Element, Places], Disk | None]:
    return lambda source, places: places.file(source.get(attribute, ""))


def _volume(source: Element, places: Places) -> Disk | None:
    """A pool's name is the machine's own; asking where it lies could wait for a pool that hangs."""
    pool, volume = source.get("pool"), source.get("volume")
    return places.local(f"volume:{pool}/{volume}") if pool and volume else None


def _nvme(source: Element, places: Places) -> Disk | None:
    address = source.find("address")
    if address is None:
        return None
    domain, bus, slot, function = (_number(address, name) for name in ("domain", "bus", "slot", "function"))
    place = f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"
    return places.local(f"nvme:{place}/{source.get('namespace', '1')}")


def _number(element: Element, name: str) -> int:
    try:
        return int(element.get(name, "0"), 0)
    except ValueError:
        return 0


def _vhostuser(source: Element, places: Places) -> Disk | None:
    path = source.get("path")
    return places.local(f"vhostuser:{path}") if path else None


def _network(source: Element, places: Places) -> Disk | None:
    """`protocol:name` on its servers in alphabetical order, as several name the same cluster; without any: here."""
    protocol = source.get("protocol", "")
    name = source.get("name", "").removeprefix("/")
    if protocol in _NEVER_WRITTEN or not (name or protocol == "nbd"):
        return None
    if protocol == "iscsi" and "/" not in name:
        name = f"{name}/0"  # formatdomain: the default unit
    snapshot = source.find("snapshot")
    if snapshot is not None:
        name = f"{name}@{snapshot.get('name')}"
    return disk(f"{protocol}:{name}", ",".join(sorted(set(_hosts(protocol, source, places)))) or places.machine)


def _hosts(protocol: str, source: Element, places: Places) -> Iterator[str]:
    for host in source.iterfind("host"):
        name, port = host.get("name"), host.get("port", "")
        if host.get("transport") == "unix":
            yield f"{places.machine}:{host.get('socket')}"
        elif name:
            yield places.host(name, "" if port in _PORTS.get(protocol, ()) else port)


_KINDS: dict[str, Callable[[Element, Places], Disk | None]] = {
    "file": _file("file"),
    "block": _file("dev"),
    "dir": _file("dir"),
    "vhostvdpa": _file("dev"),
    "network": _network,
    "volume": _volume,
    "nvme": _nvme,
    "vhostuser": _vhostuser,
}
"""By the `type` of a disk. One that a newer libvirt has is left out."""
