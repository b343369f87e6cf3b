"""Real live migrations tell what `tests/unit/panel/migrations.py` has of them: the rules are tested with the truth."""

import contextlib
from collections.abc import Callable, Iterator

import libvirt
import psutil
import pytest

from tests.testbed import guests
from tests.testbed.daemon import quiet_libvirt
from tests.testbed.migration import FAST_MIB_S, Hypervisors, Migration, Way
from tests.testbed.observer import Observer
from tests.testbed.qemu import QemuDaemon, needs_root
from tests.testbed.waiting import free_port, wait_until
from tests.testbed.wire import Wire
from tests.unit.panel.migrations import DESTINATION, RECORDED, SOURCE, Listed, Recorded

pytestmark = needs_root()

LIFECYCLE = {"defined", "undefined", "started", "suspended", "resumed", "stopped", "shutdown", "crashed"}
STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTOFF: "shutoff",
}
BOOTED = ("started", "booted")
POWER_OFF_PASSES = 80
"""So often a guest writes to all of its memory before it switches itself off: for 4 s."""


class Trial:
    """One VM of one migration: what both ends tell of it, and list."""

    def __init__(self, hypervisors: Hypervisors, observers: dict[str, Observer], case: Recorded) -> None:
        self.hypervisors = hypervisors
        self.source, self.destination = hypervisors.source, hypervisors.destination
        self.case = case
        self.name = case.name.replace(" ", "-").replace("'", "").replace(",", "")
        sector = guests.dirties_memory(POWER_OFF_PASSES) if case.name == "switches itself off" else None
        self.domain = hypervisors.start(self.name, sector=sector, transient=not case.persistent)
        self._observers = observers

    def migration(self, flags: int = 0, *, slow: bool = False, way: Way = Way.NATIVE, port: int = 0) -> Migration:
        return Migration(self.domain, self.destination, way, flags=flags, slow=slow, port=port)

    def migrate(self, flags: int = 0) -> None:
        with self.migration(flags) as migration:
            assert migration.finish() == ""

    @contextlib.contextmanager
    def under_way(self, flags: int = 0, way: Way = Way.NATIVE, port: int = 0) -> Iterator[Migration]:
        """A migration that does not come to an end by itself."""
        with self.migration(flags, slow=True, way=way, port=port) as migration:
            migration.wait_under_way()
            yield migration
            migration.finish()

    def arrived(self) -> libvirt.virDomain:
        return self.hypervisors.connect(self.destination).lookupByUUIDString(self.domain.UUIDString())

    def told(self, end: str) -> list[tuple[str, str]]:
        """The lifecycle events of an end; of the source, those after the VM's start."""
        events = [one for one in self._observers[end].events_of(self.name) if one[0] in LIFECYCLE]
        return events[events.index(BOOTED) + 1 :] if end == SOURCE else events

    def recorded(self, end: str) -> list[tuple[str, str]]:
        return [(event, detail) for where, event, detail in self.case.events if where == end]

    def listed(self, daemon: QemuDaemon) -> Listed | None:
        with contextlib.closing(libvirt.open(daemon.uri)) as connection:
            for domain in connection.listAllDomains():
                if domain.name() == self.name:
                    state, reason = domain.state()
                    return Listed(STATES.get(state, str(state)), reason, persistent=bool(domain.isPersistent()))
        return None


def with_flags(*flags: int) -> Callable[[Trial], None]:
    return lambda trial: trial.migrate(sum(flags))


def paused_before(trial: Trial) -> None:
    trial.domain.suspend()
    trial.migrate()


def resumed_there(trial: Trial) -> None:
    trial.migrate(libvirt.VIR_MIGRATE_PAUSED)
    trial.arrived().resume()


def postcopy(trial: Trial) -> None:
    runs_there = ("resumed", "postcopy")
    with trial.under_way(libvirt.VIR_MIGRATE_POSTCOPY):
        trial.domain.migrateStartPostCopy()
        wait_until(lambda: runs_there in trial.told(DESTINATION), "the VM to run at the destination")
        trial.domain.migrateSetMaxSpeed(FAST_MIB_S, libvirt.VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY)


def there_and_back(trial: Trial) -> None:
    trial.migrate(libvirt.VIR_MIGRATE_PERSIST_DEST)
    with Migration(trial.arrived(), trial.source, flags=libvirt.VIR_MIGRATE_PERSIST_DEST) as back:
        assert back.finish() == ""


def name_taken(trial: Trial) -> None:
    other = trial.hypervisors.connect(trial.destination).defineXML(
        guests.domain_xml(trial.name, "", trial.hypervisors.folder / "other.img").replace("<uuid></uuid>", "")
    )
    with trial.migration() as migration:
        assert "already exists" in migration.finish()
    other.undefine()


def port_blocked(trial: Trial) -> None:
    with trial.migration(port=free_port()) as migration:
        assert "refused" in migration.finish()


def cancelled(trial: Trial) -> None:
    with trial.under_way() as migration:
        migration.cancel()


def destination_killed(trial: Trial) -> None:
    with trial.under_way():
        psutil.Process(trial.destination.qemu_pid(trial.name)).kill()


def connection_broken(trial: Trial) -> None:
    port = free_port()
    with Wire.of_port(port) as wire, trial.under_way(port=port):
        wire.wait_carrying()
        wire.reset()


def destroyed_there(trial: Trial) -> None:
    with trial.under_way():
        trial.arrived().destroy()


def source_killed(trial: Trial) -> None:
    with trial.under_way():
        psutil.Process(trial.source.qemu_pid(trial.name)).kill()


def destroyed(trial: Trial) -> None:
    with trial.under_way():
        trial.domain.destroy()


def switches_itself_off(trial: Trial) -> None:
    with trial.under_way():
        pass


PERSIST, UNDEFINE = libvirt.VIR_MIGRATE_PERSIST_DEST, libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
ACTIONS: dict[str, Callable[[Trial], None]] = {
    "to a transient one": with_flags(),
    "of a transient one": with_flags(),
    "with its definition": with_flags(PERSIST),
    "the source undefined": with_flags(UNDEFINE),
    "moved with its definition": with_flags(PERSIST, UNDEFINE),
    "arrives paused": with_flags(libvirt.VIR_MIGRATE_PAUSED),
    "arrives paused, and is resumed": resumed_there,
    "paused by its user before": paused_before,
    "post-copy": postcopy,
    "there and back, with a definition on both": there_and_back,
    "refused before it began": name_taken,
    "the port is blocked": port_blocked,
    "cancelled": cancelled,
    "the destination's QEMU killed": destination_killed,
    "the connection of the QEMUs broken": connection_broken,
    "destroyed at the destination": destroyed_there,
    "the source's QEMU killed": source_killed,
    "destroyed": destroyed,
    "switches itself off": switches_itself_off,
}
"""What is done here; the cases in which a libvirtd hangs or is killed were recorded, and are not done again."""


@pytest.fixture(scope="module")
def hypervisors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hypervisors]:
    with Hypervisors(tmp_path_factory.mktemp("hypervisors")) as two:
        yield two


@pytest.fixture(scope="module")
def observers(hypervisors: Hypervisors) -> Iterator[dict[str, Observer]]:
    folder = hypervisors.folder
    with (
        Observer(hypervisors.source.uri, folder / "at-source") as source,
        Observer(hypervisors.destination.uri, folder / "at-destination") as destination,
    ):
        yield {SOURCE: source, DESTINATION: destination}


@pytest.mark.parametrize("case", [case for case in RECORDED if case.name in ACTIONS], ids=lambda case: case.name)
def test_a_real_migration_tells_and_lists_what_was_recorded(
    hypervisors: Hypervisors, observers: dict[str, Observer], case: Recorded
) -> None:
    with quiet_libvirt():
        trial = Trial(hypervisors, observers, case)
        wait_until(lambda: BOOTED in observers[SOURCE].events_of(trial.name), "the start to be told")
        ACTIONS[case.name](trial)
        for end, daemon, listed in (
            (SOURCE, trial.source, case.source),
            (DESTINATION, trial.destination, case.destination),
        ):
            recorded = trial.recorded(end)
            wait_until(lambda: len(trial.told(end)) >= len(recorded), f"{recorded}, not {trial.told(end)}")  # noqa: B023
            if case.name != "refused before it began":  # there, another VM of this name was defined
                assert trial.told(end) == recorded
            # It is listed as being shut down for a moment longer.
            wait_until(lambda: trial.listed(daemon) == listed, f"{listed}, not {trial.listed(daemon)}")  # noqa: B023
        end_vm(trial)


def end_vm(trial: Trial) -> None:
    """The next case's QEMUs shall not have to share the machine with it."""
    for daemon in (trial.source, trial.destination):
        with contextlib.suppress(libvirt.libvirtError):
            trial.hypervisors.connect(daemon).lookupByName(trial.name).destroy()
