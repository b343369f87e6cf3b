"""Installing without any VM: who may, where, what is refused, and a hypervisor that does not answer."""

import asyncio
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import libvirt
import psutil
import pytest
import requests

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.service import command
from tests.testbed.stack import ADMIN, SERVICE, Panel
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until
from tests.unit.panel.reports import EPOCH, Message, entry, inventory, report, uuid_of
from vmwatch.panel.hypervisors import Hypervisors, libvirt_uri
from vmwatch.panel.installation import Action, Answer, Boot, Installation, Kind, Verb
from vmwatch.panel.libvirtaction import Order, perform
from vmwatch.panel.places import MOST_ON_NODE, Places
from vmwatch.panel.store import Host
from vmwatch.shared.report import Verdict, decode_answer

NOWHERE = "qemu+unix:///system?socket=/none/libvirt-sock"
LISTED = {"web": "shutoff", "runs": "running", "stays": "shutoff"}


def post(panel: Panel, func: str, **fields: str) -> dict[str, Any]:
    return call(panel, ADMIN, func, **fields)


def call(panel: Panel, auth: tuple[str, str], func: str, **fields: str) -> dict[str, Any]:
    answer = requests.post(panel.url, data={"func": func, "out": "json", **fields}, auth=auth, timeout=60)
    answer.raise_for_status()
    doc: dict[str, Any] = answer.json()["doc"]
    return doc


def error_of(doc: dict[str, Any]) -> tuple[str, str, str]:
    return doc["error"]["$type"], doc["error"]["$object"], doc["error"]["msg"]["$"]


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[Panel]:
    """With one node, `kvm-01`, of three VMs."""
    with Panel(tmp_path) as panel:
        tell(panel, "kvm-01", LISTED)
        with alive(panel):
            yield panel


@contextmanager
def alive(panel: Panel) -> Iterator[None]:
    """`kvm-01` gives signs of life; without them its word counts no more after some seconds."""
    ends = threading.Event()

    def live() -> None:
        while not ends.wait(1.0):
            with suppress(requests.RequestException):
                send(panel, entry(node="kvm-01", epoch=EPOCH, live=True) | {"interval": 5})

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def send(panel: Panel, *entries: Message) -> Verdict:
    """The verdict on the first of these entries."""
    answer = requests.post(
        panel.url,
        params={"func": "vmwatch.report"},
        data=report(*entries),
        headers={"Content-Type": "application/json"},
        auth=SERVICE,
        timeout=60,
    )
    return decode_answer(answer.content)[0]


def tell(panel: Panel, node: str, states: dict[str, str], interval_s: int = 10) -> None:
    """A listing, with the token that the panel asked for."""
    token = ""
    for number in (1, 2):
        listing = inventory(number, number - 1, **states)
        told = entry(listing | {"token": token}, node=node, epoch=EPOCH, live=True)
        verdict = send(panel, told | {"interval": interval_s})
        assert not verdict.refused
        token = verdict.want_inventory


def allow(panel: Panel, **fields: str) -> dict[str, Any]:
    return post(panel, "vmhostnode.edit", **({"elid": "kvm-01", "sok": "ok", "allow_install": "yes"} | fields))


def install(panel: Panel, name: str = "web", **fields: str) -> dict[str, Any]:
    return post(panel, "vm.install", **({"elid": uuid_of(name), "sok": "ok", "image": "/a.iso"} | fields))


def test_installing_is_refused_until_an_administrator_allows_it_on_the_node(panel: Panel) -> None:
    kind, what, text = error_of(install(panel))
    assert (kind, what) == ("value", "allow_install")
    assert "allow_install=yes" in text
    assert "no other panel" in text
    assert panel.rows("vmhostnode")[0]["allow_install"] == "no"
    allow(panel)
    kind, what, text = error_of(install(panel))
    assert (kind, what) == ("value", "libvirt_uri")
    assert "reach=local" in text
    allow(panel, libvirt_uri=NOWHERE)
    assert "ok" in install(panel)
    row = panel.vms()[uuid_of("web")]
    assert (row["vmstatus"], row["installing"]) == ("shutoff", "on")


def test_what_cannot_be_installed_is_refused_by_name(panel: Panel) -> None:
    allow(panel, libvirt_uri=NOWHERE)
    assert error_of(install(panel, "runs"))[1] == "elid"
    assert "shut it off first" in error_of(install(panel, "runs"))[2]
    assert error_of(post(panel, "vm.install", elid=str(uuid.uuid4()), sok="ok"))[:2] == ("missed", "vm")
    for field, value in (
        ("boot", "tape"),
        ("image", "a.iso"),
        ("image", "/etc/shadow"),
        ("image", "/images/another-vm.img"),
        ("reboots", "0"),
        ("reboots", "21"),
        ("time_limit", "1"),
    ):
        assert error_of(install(panel, **{field: value}))[:2] == ("value", field)
    assert error_of(install(panel, boot="network"))[:2] == ("value", "image")
    assert "ok" in install(panel)
    assert error_of(install(panel))[:2] == ("exists", "installation")
    assert error_of(post(panel, "vm.install.cancel", elid=uuid_of("stays"), sok="ok"))[:2] == ("missed", "installation")


def test_a_vm_on_two_nodes_is_refused_naming_both(panel: Panel) -> None:
    allow(panel, libvirt_uri=NOWHERE)
    tell(panel, "kvm-02", {"web": "shutoff"})
    _, what, text = error_of(install(panel))
    assert what == "elid"
    assert "kvm-01, kvm-02" in text


def test_a_node_that_does_not_report_is_refused(tmp_path: Path) -> None:
    with Panel(tmp_path) as panel:
        tell(panel, "kvm-01", LISTED, interval_s=1)
        allow(panel, libvirt_uri=NOWHERE)
        wait_until(lambda: panel.rows("vmhostnode")[0]["state"] == "silent", "the node to fall silent")
        assert error_of(install(panel))[:2] == ("value", "hostnode")


def test_a_form_shows_what_would_be_used(panel: Panel) -> None:
    doc = post(panel, "vm.install", elid=uuid_of("web"))
    assert {name: doc[name]["$"] for name in ("boot", "reboots", "time_limit")} == {
        "boot": "cdrom",
        "reboots": "1",
        "time_limit": "3600",
    }


def test_only_an_administrator_says_where_and_whether_the_panel_may_change_domains(panel: Panel) -> None:
    operator = ("olga", "an operator's password")
    subprocess.run(
        [command("vmwatch-panel"), "--prefix", str(panel.prefix), "user", "set", operator[0], "--role", "operator"],
        input=operator[1].encode() + b"\n",
        check=True,
        capture_output=True,
    )
    for field, value in (("allow_install", "yes"), ("libvirt_uri", "qemu:///system")):
        doc = call(panel, operator, "vmhostnode.edit", elid="kvm-01", sok="ok", **{field: value})
        assert error_of(doc)[:2] == ("access", field)
    assert "ok" in call(panel, operator, "vmhostnode.edit", elid="kvm-01", sok="ok", reach="manual")


@pytest.mark.parametrize(
    "uri",
    [
        "qemu+ssh://root@kvm-01/system?command=/tmp/evil",
        "qemu+ssh://-oProxyCommand=evil/system",
        "qemu+ssh://kvm-01/system?netcat=/tmp/evil",
        "qemu+ext:///system?command=/tmp/evil",
        "test:///default",
        "qemu:///session",
    ],
)
def test_an_address_that_could_run_something_on_the_panels_host_is_refused(panel: Panel, uri: str) -> None:
    assert error_of(allow(panel, libvirt_uri=uri))[:2] == ("value", "libvirt_uri")


def test_libvirt_is_reached_as_the_node_is() -> None:
    assert libvirt_uri(Host(1, "a", reach="local")) == "qemu:///system"
    assert libvirt_uri(Host(1, "a", "192.0.2.7", "ssh")) == "qemu+ssh://root@192.0.2.7:22/system?no_tty=1"
    assert libvirt_uri(Host(1, "a", "2001:db8::7", "ssh")) == "qemu+ssh://root@[2001:db8::7]:22/system?no_tty=1"
    elsewhere = Host(1, "a", "192.0.2.7", "ssh", ssh="ops@kvm-01:2222")
    assert libvirt_uri(elsewhere) == "qemu+ssh://ops@kvm-01:2222/system?no_tty=1"
    assert libvirt_uri(Host(1, "a", "", "ssh")) == ""
    assert libvirt_uri(Host(1, "a", "192.0.2.7", "manual")) == ""
    assert libvirt_uri(Host(1, "a", "192.0.2.7", "ssh", libvirt_uri="qemu+tls://b/system")) == "qemu+tls://b/system"


def test_a_libvirtd_that_is_away_is_tried_again_until_the_time_limit_which_says_so(panel: Panel) -> None:
    allow(panel, libvirt_uri=NOWHERE)
    install(panel, time_limit="5")

    def newest() -> dict[str, str]:
        return panel.rows("vm.install.list", elid=uuid_of("web"))[0]

    wait_until(lambda: newest()["note"], "the first attempt to fail")
    wait_until(lambda: newest()["outcome"] == "failed", "the time limit")
    assert "time limit of 5 s" in newest()["reason"]
    assert "cannot be reached" in newest()["reason"]
    assert panel.vms()[uuid_of("web")]["installing"] == "off"
    assert [row["object"] for row in panel.rows("problems", type="vm_install_failed")] == [uuid_of("web")]
    assert "being put back" in error_of(install(panel))[2]


def test_an_installation_ends_where_it_is_forbidden_meanwhile(panel: Panel) -> None:
    allow(panel, libvirt_uri=NOWHERE)
    install(panel)
    allow(panel, allow_install="no")
    wait_until(lambda: panel.rows("vm.install.list")[0]["outcome"] == "failed", "the installation to end")
    assert "allow_install=no" in panel.rows("vm.install.list")[0]["reason"]


def installation(node: str) -> Installation:
    return Installation(
        id=1,
        key="k",
        uuid=str(uuid.uuid4()),
        name="web",
        node=node,
        boot=Boot.CDROM,
        image="",
        reboots=1,
        limit_s=60.0,
        began=0.0,
        left=1,
    )


@needs_libvirtd()
def test_a_hung_hypervisor_delays_no_other_and_leaves_no_process(tmp_path: Path) -> None:
    async def both(hung: Host, good: Host) -> tuple[list[Answer], list[Answer]]:
        hypervisors, action = Hypervisors(limit_s=20.0), Action(Verb.RESTORE)
        waiting = [
            asyncio.create_task(hypervisors.perform(installation("a"), action, hung)) for _ in range(MOST_ON_NODE)
        ]
        await asyncio.sleep(0)
        answers = [await hypervisors.perform(installation("b"), action, good) for _ in range(2)]
        assert not any(task.done() for task in waiting)
        return await asyncio.gather(*waiting), answers

    with TestDriverDaemon(tmp_path / "a") as frozen, TestDriverDaemon(tmp_path / "b") as good:
        frozen.freeze()
        hosts = Host(1, "a", libvirt_uri=frozen.uri), Host(2, "b", libvirt_uri=good.uri)
        late, answers = asyncio.run(both(*hosts))
        frozen.thaw()
    assert [answer.kind for answer in answers] == [Kind.DONE] * 2  # there is no such VM: nothing to put back
    assert {(answer.kind, answer.text) for answer in late} == {(Kind.AGAIN, "libvirt did not answer within 20 s")}
    assert not [child for child in psutil.Process().children() if "libvirtaction" in " ".join(child.cmdline())]


@needs_libvirtd()
def test_more_hung_hypervisors_than_there_are_places_keep_none_from_a_good_one(tmp_path: Path) -> None:
    async def all_of(frozen: str, good: str) -> tuple[list[Answer], list[Answer]]:
        hypervisors = Hypervisors(600.0, 1.0, Places(quick=2, slow=1))

        async def at(name: str, uri: str) -> Answer:
            return await hypervisors.perform(installation(name), Action(Verb.RESTORE), Host(1, name, libvirt_uri=uri))

        hung = [asyncio.create_task(at(f"a{number}", frozen)) for number in range(4)]
        await asyncio.sleep(0)
        answers = [await at("b", good)]
        # Those that were ended ask again; the first of them answers now, and does not wait for what hangs either.
        hung += [asyncio.create_task(at(f"a{number}", frozen)) for number in (1, 2)]
        await asyncio.sleep(0)
        answers.append(await at("a0", good))
        hanging = [task for task in hung if not task.done()]
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        return answers, [task.result() for task in hung if task not in hanging]

    with TestDriverDaemon(tmp_path / "a") as frozen, TestDriverDaemon(tmp_path / "b") as good:
        frozen.freeze()
        answers, ended = asyncio.run(all_of(frozen.uri, good.uri))
        frozen.thaw()
    assert [answer.kind for answer in answers] == [Kind.DONE] * 2
    assert ended
    assert all("and others waited" in answer.text for answer in ended)


DISKS = """\
<domain type='test'>
  <name>web</name>
  <uuid>{uuid}</uuid>
  <memory>8192</memory>
  <vcpu>1</vcpu>
  <os><type>hvm</type><boot dev='cdrom'/><boot dev='hd'/></os>
  <on_reboot>restart</on_reboot>
  <devices>
    <disk type='file' device='disk'><source file='/guest.img'/><target dev='hda' bus='ide'/></disk>
    <disk type='file' device='cdrom'><source file='/old.iso'/><target dev='hdc' bus='ide'/><readonly/></disk>
  </devices>
</domain>
"""


class Prepared:
    """A domain of the test driver, and actions on it as the panel has them done."""

    def __init__(self, daemon: TestDriverDaemon) -> None:
        self.uuid = daemon.uuid_of("web")
        self.uri = daemon.uri
        self.domain = daemon.connection.defineXML(DISKS.format(uuid=self.uuid))
        self.before = self.definition()

    def definition(self) -> str:
        xml: str = self.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
        return xml

    def does(self, verb: Verb, step: int = 0, *, disk: bool = False, sure: bool = False, key: str = "k") -> Answer:
        action = Action(verb, step, disk, sure)
        return perform(Order(self.uri, self.uuid, key, Boot.CDROM, "/new.iso", action))


@pytest.fixture
def prepared(tmp_path: Path) -> Iterator[Prepared]:
    with TestDriverDaemon(tmp_path / "libvirt") as daemon:
        yield Prepared(daemon)


@needs_libvirtd()
def test_each_action_may_be_done_twice(prepared: Prepared) -> None:
    assert prepared.does(Verb.PREPARE) == prepared.does(Verb.PREPARE)
    assert prepared.does(Verb.START, 1).kind is Kind.DONE
    assert prepared.does(Verb.START, 1).kind is Kind.DONE
    prepared.domain.destroy()
    assert prepared.does(Verb.START, 1).kind is Kind.UNSURE
    assert not prepared.domain.isActive()
    assert prepared.does(Verb.START, 1, sure=True).kind is Kind.DONE
    assert prepared.domain.isActive()
    for _ in range(2):
        assert prepared.does(Verb.RESTORE).kind is Kind.DONE
        assert prepared.definition() == prepared.before


@needs_libvirtd()
def test_a_run_from_the_medium_is_not_taken_for_the_one_from_the_disk(prepared: Prepared) -> None:
    prepared.does(Verb.PREPARE)
    prepared.does(Verb.START, 1)
    assert prepared.does(Verb.START, 2, disk=True).kind is Kind.AGAIN
    prepared.domain.destroy()
    assert prepared.does(Verb.START, 2, disk=True).kind is Kind.DONE


@needs_libvirtd()
def test_what_others_do_to_the_vm_is_neither_undone_nor_taken_for_ours(prepared: Prepared) -> None:
    prepared.domain.create()
    answer = prepared.does(Verb.PREPARE)
    assert (answer.kind, "shut off" in answer.text) == (Kind.FAILED, True)
    prepared.domain.destroy()
    prepared.does(Verb.PREPARE)
    ours = prepared.definition()
    prepared.domain.connect().defineXML(prepared.before)
    assert "replaced by somebody" in prepared.does(Verb.START, 1).text
    assert prepared.does(Verb.RESTORE).kind is Kind.DONE
    assert prepared.definition() == prepared.before
    prepared.domain.create()  # by somebody, without the mark, and then the definition is ours again
    prepared.domain.connect().defineXML(ours)
    assert "started by somebody" in prepared.does(Verb.START, 1).text
    assert prepared.does(Verb.RESTORE, key="another").kind is Kind.DONE
    assert prepared.definition() == ours


@needs_libvirtd()
def test_a_vm_that_is_gone_fails_an_action_and_leaves_nothing_to_put_back(prepared: Prepared) -> None:
    prepared.does(Verb.PREPARE)
    prepared.domain.undefine()
    assert prepared.does(Verb.START, 1).kind is Kind.FAILED
    assert prepared.does(Verb.RESTORE).kind is Kind.DONE
