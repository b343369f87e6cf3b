"""A domain's definition while an operating system is installed: what is changed in its XML, and put back.

What was there before is kept in the definition itself, in a mark below `<metadata>`, together with the installation's
key and the number of the start. So a definition can be put back whatever the panel remembers, each step can be done
twice, and a running domain tells by the mark in its live XML which start it is from. Putting back undoes only what was
changed here: what an operator changes meanwhile stays.

No I/O. libvirt's format: https://libvirt.org/formatdomain.html
"""

import io
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import msgspec
from msgspec import Struct

from vmwatch.panel.installation import Boot
from vmwatch.shared.errors import VmwatchError

NAMESPACE = "urn:vmwatch:installation:1"
PREFIX = "vmwatch"
_UNORDERED = 2**32
_TAG = f"{{{NAMESPACE}}}installation"
_ACTIONS = ("on_poweroff", "on_reboot")
_BUSES = {"ide", "sata", "scsi", "fdc"}
_DRIVES = {Boot.CDROM: "cdrom", Boot.FLOPPY: "floppy"}


class DefinitionError(VmwatchError):
    """The domain cannot be installed in this way; the text says why."""


class Medium(Struct, frozen=True):
    """The drive that got another medium: its target, and its type and `<source>` before (empty: it had none).
    `added`: the drive itself is new; `controllers`: those that there were before."""

    target: str
    type: str = ""
    source: str = ""
    added: bool = False
    controllers: list[tuple[str, str]] = []


class Former(Struct, frozen=True):
    """What a definition had before: boot devices, orders by device, actions on power-off and reboot."""

    boot: list[str] = []
    orders: list[tuple[str, str]] = []
    actions: dict[str, str] = {}
    medium: Medium | None = None


class Mark(Struct, frozen=True):
    """The mark of an installation. `disk`: this start is from the disk; `drive`: the device that is booted else."""

    key: str
    step: int
    disk: bool
    drive: str
    main: str
    former: Former


def mark_of(xml: str) -> Mark | None:
    """The mark in a definition; None if there is none that can be read."""
    found = _parse(xml).find(f"metadata/{_TAG}")
    return None if found is None else _read(found)


def prepared(xml: str, key: str, boot: Boot, image: str) -> str:
    """The definition for an installation: it boots from the source, and a guest's reset ends the VM.

    Raises DefinitionError where the VM has not what that needs.
    """
    before = mark_of(xml)
    if before is not None:
        if before.key == key:
            return xml
        xml = restored(xml)  # another installation did not end as it should
    root = _parse(xml)
    devices = _devices(root)
    main = _main_disk(devices)
    actions = {name: root.findtext(name, "") for name in _ACTIONS}
    medium = _insert(root, devices, boot, image) if boot is not Boot.NETWORK else None
    drive = _drive(devices, boot, medium)
    boots = [element.get("dev", "") for element in root.findall("os/boot")]
    ordered = [(device, found) for device in devices if (found := device.find("boot")) is not None]
    orders = [(_name(device), found.get("order", "")) for device, found in ordered]
    mark = Mark(key, 0, False, _name(drive), _name(main), Former(boots, orders, actions, medium))
    return _with(root, mark)


def at_step(xml: str, step: int, *, disk: bool) -> str:
    """The prepared definition for its n-th start; from the disk the former actions are back already."""
    root = _parse(xml)
    before = mark_of(xml)
    if before is None:
        raise DefinitionError("the definition was replaced by somebody: the installation's mark in it is gone")
    return _with(root, msgspec.structs.replace(before, step=step, disk=disk))


def restored(xml: str) -> str:
    """The definition as it was before, apart from what others changed since. Without a mark it stays as it is."""
    root = _parse(xml)
    found = root.find(f"metadata/{_TAG}")
    before = None if found is None else _read(found)
    if before is None:
        return xml
    _remove_mark(root)
    _boot_from(root, [])
    former = before.former
    for device in _devices(root):
        order = dict(former.orders).get(_name(device))
        if order is not None:
            _child(device, "boot").set("order", order)
    system = _child(root, "os")
    for name in former.boot:
        ElementTree.SubElement(system, "boot", {"dev": name})
    _set_actions(root, former.actions)
    if former.medium is not None:
        _take_out(root, former.medium)
    return _text(root)


def _with(root: Element, mark: Mark) -> str:
    """The XML with this mark and what it says: where it boots from, what a reset does."""
    names = [mark.main] if mark.disk else [mark.drive, mark.main]
    _boot_from(root, names)
    _set_actions(root, mark.former.actions if mark.disk else dict.fromkeys(_ACTIONS, "destroy"))
    _remove_mark(root)
    written = ElementTree.SubElement(_child(root, "metadata"), _TAG)
    written.text = msgspec.json.encode(mark).decode()
    return _text(root)


def _boot_from(root: Element, names: list[str]) -> None:
    """These devices, in this order, and no others; libvirt allows orders only without `<os><boot>`."""
    system = _child(root, "os")
    for element in system.findall("boot"):
        system.remove(element)
    for device in _devices(root):
        for element in device.findall("boot"):
            device.remove(element)
        if _name(device) in names:
            ElementTree.SubElement(device, "boot", {"order": str(1 + names.index(_name(device)))})


def _set_actions(root: Element, actions: dict[str, str]) -> None:
    for name, action in actions.items():
        found = root.find(name)
        if found is not None and not action:
            root.remove(found)
        elif action:
            _child(root, name).text = action


def _devices(root: Element) -> list[Element]:
    found = root.find("devices")
    return [] if found is None else list(found)


def _name(device: Element) -> str:
    """What a device is called across definitions: a disk's target, a card's MAC address, else its place."""
    for tag, attribute in (("target", "dev"), ("mac", "address")):
        found = device.find(tag)
        if found is not None and device.tag == ("disk" if tag == "target" else "interface"):
            return f"{device.tag} {found.get(attribute, '')}"
    places = [" ".join(f"{k}={v}" for k, v in sorted(place.attrib.items())) for place in device.findall("address")]
    return " ".join([device.tag, *places])


def _kind(device: Element) -> str:
    """`disk`, `cdrom` or `floppy` of a disk; empty for what is none."""
    return device.get("device", "disk") if device.tag == "disk" else ""


def _main_disk(devices: list[Element]) -> Element:
    """The disk that the VM would boot from: the one with the lowest order, else the first."""
    disks = [device for device in devices if _kind(device) == "disk"]
    if not disks:
        raise DefinitionError("the VM has no disk to install to")

    def order(disk: Element) -> int:
        found = disk.find("boot")
        text = "" if found is None else found.get("order", "")
        return int(text) if text.isdigit() else _UNORDERED

    return min(disks, key=order)


def _drive(devices: list[Element], boot: Boot, medium: Medium | None) -> Element:
    """The device that the installation boots from."""
    if boot is Boot.NETWORK:
        cards = [device for device in devices if device.tag == "interface"]
        if not cards:
            raise DefinitionError("boot=network: the VM has no network card")
        return cards[0]
    drives = [device for device in devices if _kind(device) == _DRIVES[boot]]
    if medium is not None:
        return next(drive for drive in drives if _name(drive) == f"disk {medium.target}")
    filled = [drive for drive in drives if drive.find("source") is not None]
    if not filled:
        what = "its drives are empty" if drives else "the VM has no such drive"
        raise DefinitionError(f"boot={boot}: {what}; image=FILE is required")
    return filled[0]


def _insert(root: Element, devices: list[Element], boot: Boot, image: str) -> Medium | None:
    """The image in the first drive of its kind, which is added if there is none. None: no image was asked for."""
    if not image:
        return None
    drive = next((device for device in devices if _kind(device) == _DRIVES[boot]), None)
    if drive is not None:
        source, target = drive.find("source"), drive.find("target")
        name = "" if target is None else target.get("dev", "")
        medium = Medium(name, drive.get("type", "file"), "" if source is None else _text(source))
        if source is not None:
            drive.remove(source)
    else:
        drive, medium = _add_drive(root, devices, boot)
        devices.append(drive)
    drive.set("type", "file")
    ElementTree.SubElement(drive, "source", {"file": image})
    return medium


def _add_drive(root: Element, devices: list[Element], boot: Boot) -> tuple[Element, Medium]:
    found = root.find("os/type")
    machine = "" if found is None else found.get("machine", "")
    is_pc = found is not None and found.get("arch", "") in ("x86_64", "i686")
    if boot is Boot.FLOPPY:
        bus, prefix = "fdc", "fd"
    elif is_pc:
        bus, prefix = ("sata", "sd") if "q35" in machine else ("ide", "hd")
    else:
        bus, prefix = "scsi", "sd"
    taken = {target.get("dev", "") for device in devices if (target := device.find("target")) is not None}
    # CD drives of IDE usually are the second channel's
    letters = "cdab" if prefix == "hd" else "abcdefghijklmnopqrstuvwxyz"
    name = next((name for letter in letters if (name := prefix + letter) not in taken), "")
    if not name:
        raise DefinitionError(f"boot={boot}: there is no room for one more drive on the bus {bus}")
    drive = ElementTree.SubElement(_child(root, "devices"), "disk", {"type": "file", "device": _DRIVES[boot]})
    ElementTree.SubElement(drive, "driver", {"name": "qemu", "type": "raw"})
    ElementTree.SubElement(drive, "target", {"dev": name, "bus": bus})
    ElementTree.SubElement(drive, "readonly")
    return drive, Medium(name, added=True, controllers=_controllers(devices))


def _controllers(devices: list[Element]) -> list[tuple[str, str]]:
    return [(device.get("type", ""), device.get("index", "")) for device in devices if device.tag == "controller"]


def _take_out(root: Element, medium: Medium) -> None:
    """The former medium is back in its drive; one that was added goes, with the controllers that came with it."""
    inside = _child(root, "devices")
    for drive in inside.findall("disk"):
        if _name(drive) != f"disk {medium.target}" or _kind(drive) == "disk":
            continue
        if medium.added:
            inside.remove(drive)
            continue
        for source in drive.findall("source"):
            drive.remove(source)
        drive.set("type", medium.type)
        if medium.source:
            drive.append(ElementTree.fromstring(medium.source))
    if medium.added:
        buses = {target.get("bus", "") for target in inside.findall("disk/target")}
        for controller in inside.findall("controller"):
            name = (controller.get("type", ""), controller.get("index", ""))
            if name[0] in _BUSES - buses and name not in medium.controllers:
                inside.remove(controller)


def _read(element: Element) -> Mark | None:
    try:
        return msgspec.json.decode(element.text or "", type=Mark)
    except msgspec.MsgspecError:
        return None


def _remove_mark(root: Element) -> None:
    metadata = root.find("metadata")
    if metadata is None:
        return
    for element in metadata.findall(_TAG):
        metadata.remove(element)
    if not len(metadata):
        root.remove(metadata)


def _child(parent: Element, tag: str) -> Element:
    found = parent.find(tag)
    return ElementTree.SubElement(parent, tag) if found is None else found


def _parse(xml: str) -> Element:
    """The root; prefixes of other tools' elements stay what they were when it is written again."""
    for _, (prefix, address) in ElementTree.iterparse(io.StringIO(xml), events=["start-ns"]):
        try:
            ElementTree.register_namespace(prefix, address)
        except ValueError:
            pass  # a prefix that ElementTree keeps for itself: it makes one up, and the meaning is the same
    ElementTree.register_namespace(PREFIX, NAMESPACE)
    return ElementTree.fromstring(xml)


def _text(element: Element) -> str:
    return ElementTree.tostring(element, encoding="unicode")
