"""One run: the script is played to the cluster while everybody looks, and then all is reckoned."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import libvirt
import psutil

from bench.veracity.cluster import Cluster
from bench.veracity.observers import CONTENDERS, OURS, Onlooker, Witness
from bench.veracity.outcome import Outcome
from bench.veracity.record import GONE
from bench.veracity.script import MANY, NODES, Course, Deed, Step, script
from bench.veracity.timeline import Value, join, joined_value
from bench.veracity.verdict import reckon
from tests.testbed.daemon import quiet_libvirt
from tests.testbed.migration import Hypervisor
from tests.testbed.waiting import wait_until

RIGHT_LIMIT_S = 180.0
"""Until all pictures are right before the script begins, and ours after it has ended."""
KILLED_TOO = 0.5
"""Of the restarts of a real hypervisor's libvirtd so many find that a VM's QEMU was killed meanwhile."""
GRACEFUL = 0.5
REFUSED = "refused by libvirt"

Say = Callable[[str], None]


class Run:
    """`outcome` does everything. `say` receives a line of progress now and then."""

    def __init__(self, folder: Path, course: Course, say: Say = lambda line: None) -> None:
        self._folder = folder
        self._course = course
        self._say = say
        self._done: Counter[str] = Counter()
        self._troubles: list[str] = []
        self._cluster: Cluster
        self._witnesses: dict[str, Witness] = {}
        self._onlooker: Onlooker

    def outcome(self) -> Outcome:
        """Do the run; whatever happens, nothing of it runs afterwards."""
        with quiet_libvirt(), Cluster(self._folder, self._course) as cluster, ExitStack() as looking:
            self._cluster = cluster
            self._begin(looking)
            begin = time.monotonic()
            self._play(begin)
            end = begin + self._course.seconds
            self._wait(end)
            settled_s = self._settle()
            wrong = self._wrong(OURS)
            looking.close()
            return self._reckon(begin, end, settled_s, wrong)

    # Before

    def _begin(self, looking: ExitStack) -> None:
        """All VMs are there, everybody looks, and all pictures are right."""
        cluster, course = self._cluster, self._course
        chance = random.Random(f"truth begin {course.seed}")
        for operator in cluster.operators.values():
            operator.begin(chance)
        cluster.real_operator.begin()
        cluster.start_agents()
        for node in NODES:
            self._witnesses[node] = looking.enter_context(Witness(node, cluster.daemon(node), course.sample_s))
        self._onlooker = looking.enter_context(Onlooker(cluster.stack.panel, cluster.rival_panel, course.sample_s))
        wait_until(lambda: self._onlooker.records[OURS].samples, "the first look at the pictures")
        wait_until(lambda: not self._wrong_of_all(), "all pictures to be right at the start", RIGHT_LIMIT_S)
        self._say(f"{len(self._truth_now())} VMs on {len(NODES)} nodes; the script begins")

    def _wrong_of_all(self) -> dict[str, object]:
        failures = [observer.failure for observer in (*self._witnesses.values(), self._onlooker) if observer.failure]
        if failures:
            raise AssertionError("; ".join(failures))
        return {name: wrong for name in CONTENDERS if (wrong := self._wrong(name))}

    def _truth_now(self) -> dict[str, Value]:
        words: dict[str, list[Value]] = {}
        for witness in self._witnesses.values():
            for vm, value in witness.record.now().items():
                words.setdefault(vm, []).append(value)
        return {vm: joined_value(values) for vm, values in words.items()}

    def _wrong(self, contender: str) -> dict[str, tuple[Value, Value]]:
        """(truth, picture) of each VM that is shown otherwise than it is at this moment."""
        truth, picture = self._truth_now(), self._onlooker.records[contender].now()
        pairs = {vm: (truth.get(vm, GONE), picture.get(vm, GONE)) for vm in truth.keys() | picture.keys()}
        return {vm: pair for vm, pair in pairs.items() if pair[0] != pair[1]}

    # The script

    def _play(self, begin: float) -> None:
        """What happens to one node, or to one program, happens one after the other; all else side by side."""
        with ExitStack() as open_lanes:
            lanes: dict[str, ThreadPoolExecutor] = {}
            steps: list[tuple[Step, Future[None]]] = []
            for step in script(self._course):
                self._wait(begin + step.at_s)
                lane = _lane(step)
                if lane not in lanes:
                    lanes[lane] = open_lanes.enter_context(ThreadPoolExecutor(1, lane))
                steps.append((step, lanes[lane].submit(self._do, step)))
            for step, future in steps:
                error = future.exception()
                if error is not None:
                    self._troubles.append(f"{step.deed} at {step.at_s:.1f} s: {type(error).__name__}: {error}")

    def _do(self, step: Step) -> None:
        cluster = self._cluster
        match step.deed:
            case Deed.CHANGE | Deed.REAL_CHANGE:
                self._change(step)
                return
            case Deed.LIBVIRTD:
                self._restart_libvirtd(step)
            case Deed.PARTITION:
                for wire in cluster.wires[step.node]:
                    wire.stall()
                time.sleep(step.lasts_s)
                for wire in cluster.wires[step.node]:
                    wire.reset()
            case Deed.AGENT:
                cluster.agents[step.node].kill()
                cluster.rivals[step.node].kill()
            case Deed.MASTER:
                cluster.rival_panel.go_away()
                cluster.stack.master.kill()
                time.sleep(step.lasts_s)
                cluster.stack.master.start()
                cluster.rival_panel.come_back()
        self._done[step.deed] += 1
        self._say(f"{step.at_s:6.1f} s  {step.deed} {step.node} {step.lasts_s:.1f} s")

    def _change(self, step: Step) -> None:
        """What libvirt refuses has not happened: the truth is what it says, and not what was asked for."""
        try:
            if step.deed is Deed.CHANGE:
                self._cluster.operators[step.node].change(step, self._witnesses[step.node].looking)
            else:
                self._cluster.real_operator.change(step, lambda node, vm: self._witnesses[node].look_at(vm))
        except libvirt.libvirtError:
            self._done[REFUSED] += 1

    def _restart_libvirtd(self, step: Step) -> None:
        cluster = self._cluster
        daemon = cluster.daemon(step.node)
        victim = 0
        if isinstance(daemon, Hypervisor) and step.which < KILLED_TOO:
            names = cluster.real_operator.running_on(step.node)
            victim = daemon.qemu_pid(names[0]) if names else 0
        if step.how < GRACEFUL:
            daemon.terminate()
        else:
            daemon.kill()
        if victim:
            psutil.Process(victim).send_signal(signal.SIGKILL)
            self._done["QEMU killed while libvirtd was away"] += 1
        time.sleep(step.lasts_s)
        daemon.start()

    @staticmethod
    def _wait(until: float) -> None:
        time.sleep(max(0.0, until - time.monotonic()))

    # After

    def _settle(self) -> float:
        """Seconds from the end until our picture was right."""
        began = time.monotonic()
        try:
            wait_until(lambda: not self._wrong(OURS), "our picture to be right at the end", RIGHT_LIMIT_S)
        except AssertionError as error:
            self._troubles.append(str(error))
        return time.monotonic() - began

    def _reckon(self, begin: float, end: float, settled_s: float, wrong: Mapping[str, object]) -> Outcome:
        cluster = self._cluster
        for done in (cluster.real_operator.done, *(operator.done for operator in cluster.operators.values())):
            self._done += done
        lines = {node: witness.record.vms for node, witness in self._witnesses.items()}
        vms = {vm for timelines in lines.values() for vm in timelines}
        truths = {
            vm: join([timelines[vm].spans(begin, end) for timelines in lines.values() if vm in timelines]) for vm in vms
        }
        observers = (*self._witnesses.values(), self._onlooker)
        self._troubles += [observer.failure for observer in observers if observer.failure]
        return Outcome(
            course=self._course,
            vms=len(vms),
            done=dict(self._done),
            begin=begin,
            seconds=end - begin,
            samples={name: record.samples for name, record in self._onlooker.records.items()}
            | {node: witness.record.samples for node, witness in self._witnesses.items()},
            reckonings={
                name: reckon(truths, record.vms, begin, end) for name, record in self._onlooker.records.items()
            },
            settled_s=settled_s,
            wrong_at_end=len(wrong),
            troubles=[*self._troubles, *cluster.unasked],
        )


def _lane(step: Step) -> str:
    """What happens to the two real hypervisors is one lane: a migration takes both."""
    match step.deed:
        case Deed.CHANGE | Deed.LIBVIRTD if step.node in MANY:
            return step.node
        case Deed.CHANGE | Deed.REAL_CHANGE | Deed.LIBVIRTD:
            return "real"
        case _:
            return f"{step.deed} {step.node}"
