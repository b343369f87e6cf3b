"""A definition is changed for an installation, and put back exactly, whatever it had and whoever changes it too."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.panel.definition import DefinitionError, at_step, mark_of, prepared, restored
from vmwatch.panel.installation import Boot

DISK = "<disk type='file' device='disk'><source file='/{0}.img'/><target dev='{0}' bus='virtio'/>{1}</disk>"
CD = "<disk type='{1}' device='cdrom'>{2}<target dev='{0}' bus='sata'/><readonly/></disk>"
CARD = "<interface type='network'><mac address='52:54:00:00:00:0{0}'/><source network='default'/>{1}</interface>"
IMAGE = "/iso/setup & more.iso"


def domain(devices: str, boots: str = "<boot dev='hd'/>", actions: str = "", metadata: str = "") -> str:
    return (
        f"<domain type='kvm'><name>web</name>{metadata}"
        f"<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>{boots}</os>"
        f"{actions}<devices>{devices}</devices></domain>"
    )


def canonical(xml: str) -> str:
    """As libvirt would see it: without the order of elements that have none, and without white space between them."""
    return _sorted(ElementTree.fromstring(xml))


def _sorted(element: ElementTree.Element) -> str:
    children = [_sorted(child) for child in element]
    if element.tag not in ("os", "devices"):
        children.sort()
    return f"<{element.tag} {sorted(element.attrib.items())}>{(element.text or '').strip()}{''.join(children)}"


def orders(xml: str) -> dict[str, str]:
    """Boot order by target or address."""
    found: dict[str, str] = {}
    for device in ElementTree.fromstring(xml).iter():
        boot = device.find("boot")
        if device.tag in ("disk", "interface") and boot is not None:
            name = device.find("target" if device.tag == "disk" else "mac")
            assert name is not None
            found[name.get("dev", name.get("address", ""))] = boot.get("order", "")
    return found


BOOTS = st.lists(st.sampled_from(["hd", "cdrom", "network", "fd"]), max_size=3, unique=True)
ACTION = st.sampled_from(["", "destroy", "restart"])


@st.composite
def domains(draw: st.DrawFn) -> str:
    numbered = draw(st.booleans())
    free = iter(draw(st.permutations(range(1, 9))))

    def order() -> str:
        return f"<boot order='{next(free)}'/>" if numbered and draw(st.booleans()) else ""

    parts = [DISK.format(name, order()) for name in ("vda", "vdb")[: draw(st.integers(1, 2))]]
    if draw(st.booleans()):
        source = draw(st.sampled_from(["", "<source file='/old.iso'/>", "<source dev='/dev/sr0'/>"]))
        parts.append(CD.format("sda", "block" if "dev=" in source else "file", source + order()))
    parts += [CARD.format(n, order()) for n in range(draw(st.integers(0, 2)))]
    actions = {name: draw(ACTION) for name in ("on_poweroff", "on_reboot", "on_crash")}
    boots = "" if numbered else "".join(f"<boot dev='{name}'/>" for name in draw(BOOTS))
    metadata = draw(st.sampled_from(["", "<metadata><o:os xmlns:o='http://example.org/os'>x</o:os></metadata>"]))
    return domain("".join(parts), boots, "".join(f"<{n}>{a}</{n}>" for n, a in actions.items() if a), metadata)


@given(domains(), st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=3))
def test_what_is_put_back_is_what_there_was(xml: str, steps: list[tuple[int, bool]]) -> None:
    now = prepared(xml, "key", Boot.CDROM, IMAGE)
    for step, disk in steps:
        now = at_step(now, step, disk=disk)
        assert prepared(now, "key", Boot.CDROM, IMAGE) == now
        mark = mark_of(now)
        assert mark is not None
        assert (mark.key, mark.step, mark.disk) == ("key", step, disk)
    back = restored(now)
    assert canonical(back) == canonical(xml)
    assert mark_of(back) is None
    assert restored(back) == back


@given(domains())
def test_the_medium_comes_first_and_the_main_disk_next_and_alone_at_the_end(xml: str) -> None:
    now = prepared(xml, "key", Boot.CDROM, IMAGE)
    assert sorted(orders(now).values()) == ["1", "2"]
    main = next(name for name, order in orders(now).items() if order == "2")
    before = {name: order for name, order in orders(xml).items() if name.startswith("vd")}
    assert main == (min(before, key=lambda name: before[name]) if before else "vda")
    assert "<on_reboot>destroy</on_reboot>" in now
    assert "<on_poweroff>destroy</on_poweroff>" in now
    assert "<boot dev=" not in now
    at_end = at_step(now, 2, disk=True)
    assert orders(at_end) == {main: "1"}
    for name in ("on_reboot", "on_poweroff"):
        assert re.findall(f"<{name}>.*?</{name}>", at_end) == re.findall(f"<{name}>.*?</{name}>", xml)


def test_an_installation_that_takes_over_from_an_unfinished_one_puts_back_what_was_before_both() -> None:
    xml = domain(DISK.format("vda", "") + CD.format("sda", "file", "<source file='/old.iso'/>"))
    now = prepared(prepared(xml, "first", Boot.CDROM, "/a.iso"), "second", Boot.CDROM, "/b.iso")
    mark = mark_of(now)
    assert mark is not None
    assert mark.key == "second"
    assert canonical(restored(now)) == canonical(xml)


def test_what_others_change_meanwhile_stays_and_a_device_that_went_is_no_trouble() -> None:
    card = CARD.format(1, "<boot order='2'/>")
    xml = domain(DISK.format("vda", "<boot order='1'/>") + card, boots="")
    now = prepared(xml, "key", Boot.CDROM, IMAGE).replace("<name>web</name>", "<name>mail</name>")
    gone = ElementTree.fromstring(now)
    devices = gone.find("devices")
    assert devices is not None
    devices.remove(next(device for device in devices if device.tag == "interface"))
    back = restored(ElementTree.tostring(gone, encoding="unicode"))
    assert canonical(back) == canonical(xml.replace(card, "").replace("web", "mail"))


def test_a_network_installation_boots_the_first_card() -> None:
    xml = domain(DISK.format("vda", "") + CARD.format(1, "") + CARD.format(2, ""))
    assert orders(prepared(xml, "key", Boot.NETWORK, "")) == {"52:54:00:00:00:01": "1", "vda": "2"}


def test_the_drive_that_holds_a_medium_is_booted_without_an_image() -> None:
    drives = CD.format("sda", "file", "") + CD.format("sdb", "file", "<source file='/o.iso'/>")
    xml = domain(DISK.format("vda", "") + drives)
    assert orders(prepared(xml, "key", Boot.CDROM, "")) == {"sdb": "1", "vda": "2"}


@pytest.mark.parametrize(
    ("devices", "boot", "text"),
    [
        (CD.format("sda", "file", "<source file='/old.iso'/>"), Boot.CDROM, "no disk"),
        (DISK.format("vda", ""), Boot.NETWORK, "no network card"),
        (DISK.format("vda", ""), Boot.CDROM, "image=FILE is required"),
        (DISK.format("vda", "") + CD.format("sda", "file", ""), Boot.CDROM, "image=FILE is required"),
        (DISK.format("vda", ""), Boot.FLOPPY, "image=FILE is required"),
    ],
)
def test_what_cannot_be_installed_is_refused_with_the_reason(devices: str, boot: Boot, text: str) -> None:
    with pytest.raises(DefinitionError, match=text):
        prepared(domain(devices), "key", boot, "")


def test_a_definition_whose_mark_is_gone_is_not_started_as_if_it_were_ours() -> None:
    with pytest.raises(DefinitionError, match="replaced by somebody"):
        at_step(domain(DISK.format("vda", "")), 1, disk=False)


def test_another_tools_prefix_and_its_words_stay() -> None:
    metadata = "<metadata><lib:os xmlns:lib='http://example.org/lib'>debian</lib:os></metadata>"
    xml = domain(DISK.format("vda", ""), metadata=metadata)
    assert "<lib:os>debian</lib:os>" in prepared(xml, "key", Boot.CDROM, IMAGE)
