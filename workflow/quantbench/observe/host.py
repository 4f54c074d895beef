"""The host while a block runs: who used its CPUs, how fast they ran, and what was taken away from the run.

Blocks of a model that waits for Python scatter with what else the machine does. The kernel's own counters are read
right before and right after the block, outside of the measured time; only the clock of the CPUs is looked at in
between, by a thread that sleeps so long that it costs less than a thousandth of a core. What a machine does not tell is
None with the reason. Sources: proc(5), Linux Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/, accounting/psi.rst.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from quantbench.records.block import HostLoad

TICKS: Final = os.sysconf("SC_CLK_TCK")
PERIOD_S: Final = 2.0
MOST_OF_A_CORE: Final = 0.0005
"""What the thread may cost."""
CLOCKS_READ: Final = 16
"""CPUs whose clock is read: on a machine of hundreds, these stand for the others."""
_GONE = (OSError, ValueError, IndexError)
_AGREE: Final = 1.25, 0.1
"""By how much (a factor, and cores) processes may seem busier than the CPUs they ran on: the kernel counts CPUs by
ticks, processes exactly."""


class Cpu(NamedTuple):
    """Ticks of one CPU since boot: at work for whoever, and wanted but given to another virtual machine."""

    busy: int
    stolen: int


class Quota(NamedTuple):
    """A group with a CPU quota: cores, enforcement periods so far, those in which it was stopped, and for how long."""

    cores: float
    periods: int
    stopped: int
    stopped_s: float


@dataclass(frozen=True)
class Reading:
    """One look at the host at `t` (s, monotonic). None: not told.

    processes: {pid: CPU ticks}, children that ended included. quotas: {folder of the group: Quota}. pressure: seconds
    in which some task waited, by resource.
    """

    t: float
    cpus: Mapping[int, Cpu]
    processes: Mapping[int, int]
    quotas: Mapping[str, Quota] | None
    pressure: Mapping[str, float | None]


def runs_here(url: str) -> bool | None:
    """Whether a server's address is one of this machine; None where its name cannot be resolved. Nothing is sent."""
    parts = urlsplit(url)
    with suppress(OSError, ValueError):
        for kind, _, _, _, address in socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_DGRAM):
            with socket.socket(kind, socket.SOCK_DGRAM) as probe:
                probe.connect(address)  # of a datagram socket: only the route is chosen
                return bool(probe.getsockname()[0] == address[0])
    return None


class HostMeter:
    """Reads the host at `start` and `stop`, and the clock of its CPUs in between.

    server: pids of the servers' processes now; here: whether they run on this host (`runs_here`). The CPUs that count
    are those that the client's or a server's threads may use, as long as they may be known. `stop` may be called more
    than once.
    """

    def __init__(
        self,
        server: Callable[[], Iterable[int]],
        *,
        here: bool | None = True,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
        period_s: float = PERIOD_S,
    ) -> None:
        self._server, self._here, self._clock, self._period_s = server, here, clock, period_s
        self._proc, self._sys = root / "proc", root / "sys"
        self._pids = frozenset(server())
        self._cpus = self._allowed()
        self._clocks = [path for cpu in _spread(self._cpus) if (path := self._clock_of(cpu)).exists()]
        self._groups = self._limited()
        self._mhz: list[float] = []
        self._first: Reading | None = None
        self._last: Reading | None = None
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Read, right before the block."""
        self.look_at_clocks()
        self._thread = threading.Thread(target=self._run, name="host", daemon=True)
        self._thread.start()
        self._first = self.read(self._pids)

    def stop(self) -> None:
        """Read, right after the block. Without effect when not running."""
        if self._thread is None:
            return
        last = self.read(self._pids)
        self._halt.set()
        self._thread.join()
        self._thread = None
        self.look_at_clocks()
        born = {pid: ticks for pid in set(self._server()) - self._pids if (ticks := self._ticks(pid)) is not None}
        self._last = Reading(last.t, last.cpus, {**last.processes, **born}, last.quotas, last.pressure)

    def _run(self) -> None:
        wait = self._period_s
        while not self._halt.wait(wait):
            cost = time.thread_time()
            self.look_at_clocks()
            wait = max(self._period_s, (time.thread_time() - cost) / MOST_OF_A_CORE)

    def look_at_clocks(self) -> None:
        """Note the mean clock of the CPUs now, in MHz, if the machine tells one."""
        with suppress(*_GONE):
            if self._clocks:
                self._mhz.append(fmean(int(path.read_text()) / 1000 for path in self._clocks))
            else:
                lines = (self._proc / "cpuinfo").read_text().splitlines()
                self._mhz.append(fmean(float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")))

    def read(self, servers: Collection[int]) -> Reading:
        """All counters now."""
        return Reading(
            t=self._clock(),
            cpus=self._cpu_times(),
            processes={pid: ticks for pid in (os.getpid(), *servers) if (ticks := self._ticks(pid)) is not None},
            quotas=None if self._groups is None else {str(group): _quota(group) for group in self._groups},
            pressure={what: self._waited_s(what) for what in ("cpu", "memory")},
        )

    def result(self) -> HostLoad:
        """What the readings amount to."""
        if self._first is None or self._last is None:
            return HostLoad(missing=dict.fromkeys(FIELDS, "the block was not measured to its end"))
        mhz = fmean(self._mhz) if self._mhz else None
        return summarise(self._first, self._last, client=os.getpid(), here=self._here, mhz=mhz)

    def _allowed(self) -> frozenset[int]:
        """CPUs that any thread of ours may use; threads of one process may be bound to different ones."""
        cpus: set[int] = set()
        for pid in (os.getpid(), *self._pids):
            with suppress(*_GONE):
                for thread in (self._proc / str(pid) / "task").iterdir():
                    with suppress(OSError):
                        cpus |= os.sched_getaffinity(int(thread.name))
        return frozenset(cpus or os.sched_getaffinity(0))

    def _clock_of(self, cpu: int) -> Path:
        return self._sys / f"devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq"

    def _cpu_times(self) -> dict[int, Cpu]:
        """Of the CPUs that count; empty where the kernel does not tell."""
        times = {}
        with suppress(*_GONE):
            for line in (self._proc / "stat").read_text().splitlines():
                name, *fields = line.split()
                if not name.startswith("cpu"):
                    break
                if name != "cpu" and int(name[3:]) in self._cpus:
                    user, nice, system, _, _, irq, softirq, stolen, *_ = map(int, fields)
                    times[int(name[3:])] = Cpu(user + nice + system + irq + softirq, stolen)
        return times

    def _ticks(self, pid: int) -> int | None:
        """CPU time of a process and its ended children; None if it is gone."""
        with suppress(*_GONE):
            fields = (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
            return sum(map(int, fields[11:15]))
        return None

    def _waited_s(self, what: str) -> float | None:
        """For how long some task has waited for this resource since boot; None without pressure-stall information."""
        with suppress(*_GONE):
            some = (self._proc / "pressure" / what).read_text().splitlines()[0]
            return int(some.rpartition("total=")[2]) / 1e6
        return None

    def _limited(self) -> list[Path] | None:
        """The control groups that the client and the servers are in, up to the top, that have a CPU quota.

        None where there are no control groups to be seen. Within a container its own group is often the top.
        """
        mounted, found = False, dict[Path, None]()
        top = self._sys / "fs/cgroup"
        for pid in (os.getpid(), *self._pids):
            with suppress(*_GONE):
                for line in (self._proc / str(pid) / "cgroup").read_text().splitlines():
                    _, controllers, path = line.split(":", 2)
                    if controllers and "cpu" not in controllers.split(","):
                        continue
                    mount = next((m for m in (top / controllers, top / "cpu", top) if m.is_dir()), None)
                    if mount is None:
                        continue
                    mounted = True
                    group = mount / path.strip("/")
                    inside = [group, *group.parents] if ".." not in group.parts else [mount]
                    found |= dict.fromkeys(g for g in inside if g.is_relative_to(mount) and _cores(g) is not None)
        return list(found) if mounted else None


def _spread(cpus: Collection[int]) -> list[int]:
    """At most CLOCKS_READ of these, evenly."""
    ordered = sorted(cpus)
    return ordered[:: -(-len(ordered) // CLOCKS_READ)]


def _cores(group: Path) -> float | None:
    """The CPU quota of a control group in cores; None without one."""
    with suppress(*_GONE):
        quota, period = (group / "cpu.max").read_text().split()
        return int(quota) / int(period)  # "max": none
    with suppress(*_GONE):
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    return None


def _quota(group: Path) -> Quota:
    """A group that has a quota, now; zeros where its counters cannot be read."""
    counts: dict[str, int] = {}
    with suppress(*_GONE):
        for line in (group / "cpu.stat").read_text().splitlines():
            name, value = line.split()
            counts[name] = int(value)
    stopped_s = counts.get("throttled_usec", 0) / 1e6 + counts.get("throttled_time", 0) / 1e9  # version 2, and 1
    return Quota(_cores(group) or 0.0, counts.get("nr_periods", 0), counts.get("nr_throttled", 0), stopped_s)


FIELDS: Final = tuple(name for name in HostLoad.__struct_fields__ if name not in ("cpus", "server_here", "missing"))
NO_TICKS: Final = "/proc/stat tells no CPU time"
NO_CLOCK: Final = "neither cpufreq nor /proc/cpuinfo tells a clock"
NO_GROUPS: Final = "no control groups to be seen"
NO_PRESSURE: Final = "the kernel tells no pressure-stall information"
UNSEEN: Final = {
    True: "the server runs on this machine, and which processes are its own is not known",
    False: "the server runs on another machine",
    None: "where the server runs is not known",
}


def summarise(first: Reading, last: Reading, *, client: int, here: bool | None, mhz: float | None) -> HostLoad:
    """What two readings amount to. client: its pid; here, mhz: as HostMeter has them."""
    seconds, cpus = last.t - first.t, first.cpus.keys() & last.cpus.keys()
    busy = sum(last.cpus[cpu].busy - first.cpus[cpu].busy for cpu in cpus) / TICKS / seconds
    stolen = sum(last.cpus[cpu].stolen - first.cpus[cpu].stolen for cpu in cpus) / TICKS / seconds
    cores = {pid: (ticks - first.processes.get(pid, 0)) / TICKS / seconds for pid, ticks in last.processes.items()}
    own_client = cores.pop(client, None)
    own_server = sum(cores.values()) if cores else None
    foreign, why = _foreign(busy, own_client, own_server, here)
    share, stopped_s = _stopped(first.quotas, last.quotas)
    values = {
        "server_cpu_cores": own_server,
        "client_cpu_cores": own_client,
        "foreign_cpu_cores": foreign,
        "foreign_cpu_share": None if foreign is None else foreign / len(cpus),
        "steal_share": stolen / (busy + stolen) if busy + stolen > 0 else None,
        "cpu_freq_mhz": mhz,
        "quota_cores": min((quota.cores for quota in (last.quotas or {}).values()), default=None),
        "throttled_share": share,
        "throttled_s": stopped_s,
        **{f"{what}_pressure": _waited(first, last, what) for what in first.pressure},
    }
    reasons = {
        "server_cpu_cores": UNSEEN[here],
        "client_cpu_cores": NO_TICKS,
        **dict.fromkeys(("foreign_cpu_cores", "foreign_cpu_share"), why),
        "steal_share": NO_TICKS,
        "cpu_freq_mhz": NO_CLOCK,
        "quota_cores": NO_GROUPS if last.quotas is None else "there is none",
        **dict.fromkeys(("throttled_share", "throttled_s"), NO_GROUPS),
        **{f"{what}_pressure": NO_PRESSURE for what in first.pressure},
    }
    return HostLoad(
        cpus=len(cpus) or None,
        server_here=here,
        **{name: None if value is None else round(value, 4) for name, value in values.items()},
        missing={name: reasons[name] for name, value in values.items() if value is None},
    )


def _foreign(busy: float, client: float | None, server: float | None, here: bool | None) -> tuple[float | None, str]:
    """Cores that neither the client nor a server used; None, and why, where that is not known."""
    if server is None and here is not False:
        return None, UNSEEN[here]
    if busy <= 0 or client is None:
        return None, NO_TICKS
    own, (factor, more) = client + (server or 0.0), _AGREE
    if own > factor * busy + more:
        return None, f"the run's processes used {own:.1f} cores, and the CPUs were busy for {busy:.1f}"
    return max(0.0, busy - own), ""


def _waited(first: Reading, last: Reading, what: str) -> float | None:
    begun, ended = first.pressure[what], last.pressure[what]
    return None if begun is None or ended is None else (ended - begun) / (last.t - first.t)


def _stopped(first: Mapping[str, Quota] | None, last: Mapping[str, Quota] | None) -> tuple[float | None, float | None]:
    """(share of the periods, seconds) in which the worst of the groups was stopped; 0 without a quota."""
    if first is None or last is None:
        return None, None
    shares, seconds = [0.0], [0.0]
    for group in first.keys() & last.keys():
        periods = last[group].periods - first[group].periods
        shares.append((last[group].stopped - first[group].stopped) / periods if periods > 0 else 0.0)
        seconds.append(last[group].stopped_s - first[group].stopped_s)
    return max(shares), max(seconds)
