"""host: what the kernel's counters say of a block, on made-up machines and on this one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from quantbench.observe import host
from quantbench.observe.host import FIELDS, HostMeter, runs_here
from quantbench.records.block import HostLoad

SERVER, CHILD, BORN = 4_000_001, 4_000_002, 4_000_003
"""Pids that no process of this machine has."""
NEVER = 3600.0
CPUS = sorted(os.sched_getaffinity(0))


class Machine:
    """A /proc and a /sys with two readings 10 s apart, on the CPUs of this process; CPU times in s."""

    def __init__(self, root: Path) -> None:
        self.root, self.t = root, 0.0
        self.busy, self.stolen, self.elsewhere = 0.0, 0.0, 0.0
        self.client, self.server, self.child, self.born = 0.0, 0.0, 0.0, 0.0
        self.pids = [SERVER, CHILD]
        self.write("sys/fs/cgroup/cpu.stat", "usage_usec 1\n")  # of the top there is no quota
        self.write("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull total=0\n")
        self.write(f"proc/{os.getpid()}/cgroup", "0::/run/client\n")
        for pid in (SERVER, CHILD):
            self.write(f"proc/{pid}/cgroup", "0::/run/server\n")
        self.clock_mhz(2000.0)
        self.now()

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def clock_mhz(self, mhz: float) -> None:
        for cpu in CPUS:
            self.write(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", f"{mhz * 1000:.0f}\n")

    def quota(self, group: str, cores: float, periods: int, stopped: int) -> None:
        self.write(f"sys/fs/cgroup/{group}/cpu.max", f"{100_000 * cores:.0f} 100000\n")
        counts = f"nr_periods {periods}\nnr_throttled {stopped}\nthrottled_usec {stopped * 50_000}\n"
        self.write(f"sys/fs/cgroup/{group}/cpu.stat", f"usage_usec 1\n{counts}")

    def now(self) -> None:
        """Write the counters as they are."""
        ticks = host.TICKS
        shares = [(self.busy * ticks / len(CPUS), self.stolen * ticks / len(CPUS)) for _ in CPUS]
        lines = [f"cpu{cpu} {b:.0f} 0 0 999 0 0 0 {s:.0f} 0 0" for cpu, (b, s) in zip(CPUS, shares, strict=True)]
        other = f"cpu{max(CPUS) + 7} {self.elsewhere * ticks:.0f} 0 0 0 0 0 0 0 0 0"  # one that is not ours to use
        self.write("proc/stat", "\n".join(["cpu 1 1 1 1 1 1 1 1 1 1", *lines, other, "intr 1", ""]))
        used = {os.getpid(): self.client, SERVER: self.server, CHILD: self.child, BORN: self.born}
        for pid, seconds in used.items():
            half = round(seconds * ticks / 2)
            self.write(f"proc/{pid}/stat", f"{pid} (a) b) S 1 1 1 0 -1 0 0 0 0 0 {half} 0 {half} 0 20 0 1 0 5\n")

    def meter(self, here: bool | None = True) -> HostMeter:
        return HostMeter(lambda: self.pids, here=here, root=self.root, clock=lambda: self.t, period_s=NEVER)

    def block(self, here: bool | None = True, **used: float) -> HostLoad:
        """What a block of 10 s says in which so much CPU time was used."""
        meter = self.meter(here)
        meter.start()
        self.t += 10.0
        for name, seconds in used.items():
            setattr(self, name, getattr(self, name) + seconds)
        self.now()
        meter.stop()
        meter.stop()
        return meter.result()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_neither_the_servers_nor_the_client_used_is_foreign(machine: Machine) -> None:
    load = machine.block(busy=10.0, server=4.0, child=1.0, client=2.0, elsewhere=99.0)
    assert (load.server_cpu_cores, load.client_cpu_cores, load.foreign_cpu_cores) == (0.5, 0.2, 0.3)
    assert load.cpus == len(CPUS)
    assert load.foreign_cpu_share == pytest.approx(0.3 / len(CPUS), abs=1e-4)
    assert load.steal_share == 0.0


def test_a_process_that_was_born_in_the_block_is_the_servers(machine: Machine) -> None:
    meter = machine.meter()
    meter.start()
    machine.t, machine.busy, machine.born, machine.pids = 10.0, 10.0, 6.0, [SERVER, CHILD, BORN]
    machine.now()
    meter.stop()
    assert (meter.result().server_cpu_cores, meter.result().foreign_cpu_cores) == (0.6, 0.4)


def test_stolen_time_is_a_share_of_the_time_that_was_wanted(machine: Machine) -> None:
    assert machine.block(busy=9.0, stolen=1.0).steal_share == pytest.approx(0.1, abs=1e-3)


def test_the_clock_is_the_mean_of_what_was_seen(machine: Machine) -> None:
    meter = machine.meter()
    meter.start()
    machine.clock_mhz(3000.0)
    machine.t = 10.0
    meter.stop()
    assert meter.result().cpu_freq_mhz == 2500.0


@pytest.mark.fault("a container's CPU quota stops the run", "seen in the block's context; `cpu_quota` refuses it")
@pytest.mark.parametrize("group", ["run", "run/server", "run/client"])
def test_a_quota_of_any_group_above_the_run_is_seen(machine: Machine, group: str) -> None:
    machine.quota(group, 1.5, periods=1000, stopped=100)
    meter = machine.meter()
    meter.start()
    machine.t = 10.0
    machine.quota(group, 1.5, periods=1100, stopped=125)
    meter.stop()
    load = meter.result()
    assert (load.quota_cores, load.throttled_share, load.throttled_s) == (1.5, 0.25, 1.25)


def test_a_quota_beside_the_run_is_none_of_it_and_none_is_no_throttling(machine: Machine) -> None:
    machine.quota("others", 1.0, periods=1, stopped=1)
    load = machine.block(busy=1.0)
    assert (load.quota_cores, load.throttled_share, load.missing["quota_cores"]) == (None, 0.0, "there is none")


def test_control_groups_of_version_1(machine: Machine) -> None:
    """Their folder may not be seen from within a container; then the top is the container's own."""
    for pid in (os.getpid(), SERVER, CHILD):
        machine.write(f"proc/{pid}/cgroup", "5:memory:/a\n4:cpu,cpuacct:/docker/0123\n0::/\n")
    mount = "sys/fs/cgroup/cpu,cpuacct"

    def counts(periods: int, stopped: int) -> None:
        machine.write(f"{mount}/cpu.stat", f"nr_periods {periods}\nnr_throttled {stopped}\nthrottled_time 500000000\n")

    machine.write(f"{mount}/cpu.cfs_quota_us", "200000\n")
    machine.write(f"{mount}/cpu.cfs_period_us", "100000\n")
    counts(10, 0)
    meter = machine.meter()
    meter.start()
    machine.t = 10.0
    counts(110, 10)
    meter.stop()
    assert (meter.result().quota_cores, meter.result().throttled_share) == (2.0, 0.1)


def test_waiting_for_a_cpu_is_a_share_of_the_time(machine: Machine) -> None:
    meter = machine.meter()
    meter.start()
    machine.t = 10.0
    machine.write("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull total=0\n")
    meter.stop()
    assert meter.result().cpu_pressure == 0.25
    assert meter.result().memory_pressure is None
    assert "pressure" in meter.result().missing["memory_pressure"]


@pytest.mark.parametrize(("here", "foreign", "why"), [
    (False, 0.8, "another machine"), (True, None, "which processes are its own"), (None, None, "where the server runs"),
])  # fmt: skip
def test_of_a_server_whose_processes_are_not_seen(
    machine: Machine, here: bool | None, foreign: float | None, why: str
) -> None:
    """On another machine all load here is foreign; on this one nobody can tell the server's from others'."""
    machine.pids = []
    load = machine.block(here, busy=10.0, client=2.0, server=3.0)
    assert (load.server_here, load.foreign_cpu_cores, load.server_cpu_cores) == (here, foreign, None)
    assert why in load.missing["server_cpu_cores"]
    assert (foreign is None) == (why in load.missing.get("foreign_cpu_cores", ""))


@pytest.mark.fault("the kernel's counts of CPU time contradict each other", "blank with the reason, no made-up load")
def test_processes_that_are_busier_than_their_cpus_give_no_foreign_load(machine: Machine) -> None:
    load = machine.block(busy=10.0, server=14.0)
    assert load.foreign_cpu_cores is None
    assert load.missing["foreign_cpu_share"] == "the run's processes used 1.4 cores, and the CPUs were busy for 1.0"
    assert machine.block(busy=10.0, server=11.0).foreign_cpu_cores == 0.0  # within what ticks can be off


def test_a_machine_that_tells_nothing_is_blank_with_reasons(tmp_path: Path) -> None:
    """A sandbox may have an empty /proc/stat, and no /sys."""
    times = iter((0.0, 10.0))
    meter = HostMeter(lambda: [SERVER], root=tmp_path, clock=lambda: next(times), period_s=NEVER)
    meter.start()
    meter.stop()
    load = meter.result()
    assert {getattr(load, field) for field in FIELDS} == {None}
    assert set(load.missing) == set(FIELDS)
    assert all(load.missing.values())


def test_a_block_that_did_not_end_tells_nothing(machine: Machine) -> None:
    meter = machine.meter()
    meter.stop()
    assert set(meter.result().missing) == set(FIELDS)


def test_on_this_machine_a_busy_process_is_told_apart_and_the_reading_costs_little() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        as_server, as_foreign = HostMeter(lambda: [busy.pid]), HostMeter(list, here=False)
        cost = time.process_time()
        for meter in (as_server, as_foreign):
            meter.start()
        cost = time.process_time() - cost
        time.sleep(2.0)
        for meter in (as_server, as_foreign):
            meter.stop()
    finally:
        busy.kill()
        busy.wait()
    own, foreign = as_server.result(), as_foreign.result()
    assert own.server_cpu_cores is not None
    assert own.server_cpu_cores > 0.05, "however busy the machine is"
    if None not in (own.foreign_cpu_cores, foreign.foreign_cpu_cores):
        assert foreign.foreign_cpu_cores == pytest.approx(own.foreign_cpu_cores + own.server_cpu_cores, abs=0.3)
    assert cost < 0.2


def test_the_clocks_are_looked_at_so_seldom_that_it_costs_little(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine on which one look takes 50 ms of CPU time, as reading the clock of many CPUs may."""
    spent, waits = 0.0, []
    meter = machine.meter()

    def look() -> None:
        nonlocal spent
        spent += 0.05

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) > 5

    monkeypatch.setattr(meter, "look_at_clocks", look)
    monkeypatch.setattr(meter, "_period_s", 2.0)
    monkeypatch.setattr(meter._halt, "wait", wait)
    monkeypatch.setattr(host.time, "thread_time", lambda: spent)
    meter._run()
    assert 0.05 / min(waits[1:]) <= 0.001


@pytest.mark.parametrize(("url", "here"), [
    ("http://127.0.0.1:8000", True), ("http://localhost:8000/v1", True), ("http://[::1]:8000", True),
    ("http://192.0.2.1:8000", False), ("http://nothing.invalid", None),
])  # fmt: skip
def test_whether_a_server_is_here_is_told_by_its_address(url: str, here: bool | None) -> None:
    told = runs_here(url)
    assert told is here or (here is not True and told is None) or ("::1" in url and told is None)  # no route, no IPv6
