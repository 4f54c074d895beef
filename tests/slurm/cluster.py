"""SLURM of one node with two stand-in GPUs on this machine: `sudo python tests/slurm/cluster.py up | down | remove`.

Debian's slurmctld, slurmd and munge, with a key, sockets, ports and folders of their own, below one temporary folder.
Only /etc/slurm/{slurm,gres}.conf lie elsewhere: jobs of snakemake's executor see no SLURM_CONF, so nothing else is
found. It is for tests: no accounting, no cgroups, all daemons as root and on loopback.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
ETC = Path("/etc/slurm")
CONFS = ("slurm.conf", "gres.conf", "cgroup.conf")
MINE = "# Made by quantbench's tests/slurm/cluster.py, which may overwrite and delete this file.\n"
POLICY = Path("/usr/sbin/policy-rc.d")
HOME = Path("/tmp/quantbench-slurm")
NODE, GPUS = "stand-in", 2
KILL_WAIT_S = 30
"""Seconds from SLURM's SIGTERM to its SIGKILL; its default, and what issue 12 asks for."""

SLURM_CONF = f"""{MINE}
ClusterName=quantbench-test
SlurmctldHost={{host}}(127.0.0.1)
SlurmctldPort=18150
SlurmdPort=18151
SrunPortRange=18160-18199
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={{home}}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={{home}}/state
SlurmdSpoolDir={{home}}/spool
SlurmctldPidFile={{home}}/slurmctld.pid
SlurmdPidFile={{home}}/slurmd.pid
SlurmctldLogFile={{home}}/slurmctld.log
SlurmdLogFile={{home}}/slurmd.log
ProctrackType=proctrack/{{tracking}}
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
GresTypes=gpu
KillWait={KILL_WAIT_S}
SlurmdTimeout=20
MinJobAge=300
ReturnToService=2
SchedulerParameters=sched_interval=5
NodeName={NODE} NodeHostname={{host}} NodeAddr=127.0.0.1 CPUs={{cpus}} RealMemory={{memory}} Gres=gpu:{GPUS}
PartitionName=main Nodes={NODE} Default=YES MaxTime=INFINITE State=UP
"""
GRES_CONF = f"{MINE}NodeName={NODE} Name=gpu File=/dev/null\nNodeName={NODE} Name=gpu File=/dev/zero\n"
CGROUP_CONF = f"{MINE}CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\n"
FREEZER = Path("/sys/fs/cgroup/freezer")
"""With it SLURM knows all processes of a step, as on most clusters; else only those whose parents live."""


class NotPossibleError(Exception):
    """What is in the way, and the remedy."""


def install() -> None:
    """The packages, if one is missing; their own daemons neither start now nor with the machine."""
    if all(shutil.which(program) for program in ("slurmctld", "slurmd", "sbatch", "munged")):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NotPossibleError(
            f"{', '.join(PACKAGES)} are missing; remedy: install them, or run this as root on Debian"
        )
    refuse_foreign()
    policy = not POLICY.exists()
    if policy:  # "101: do nothing" keeps the packages from starting what they install
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES]
        subprocess.run(command, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    finally:
        if policy:
            POLICY.unlink()
    for service in ("slurmctld", "slurmd", "munge"):
        subprocess.run(["systemctl", "disable", service], check=False, stderr=subprocess.DEVNULL)


def remove() -> None:
    """Stop the cluster and take the packages away, with what they need."""
    down()
    subprocess.run(["apt-get", "purge", "-y", "-q", "--auto-remove", *PACKAGES], check=True)


def refuse_foreign() -> None:
    """A slurm.conf that is not ours belongs to a cluster, which this must not touch."""
    for conf in (ETC / name for name in CONFS):
        if conf.exists() and MINE not in conf.read_text():
            raise NotPossibleError(f"{conf} is not of this test; remedy: run it on a machine that is in no cluster")


def up() -> None:
    """Start the daemons, and wait until the node is idle. A cluster that is up already is stopped first."""
    refuse_foreign()
    down()
    for folder in (HOME, HOME / "state", HOME / "spool"):
        folder.mkdir(mode=0o755)
    key = HOME / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    ETC.mkdir(exist_ok=True)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    values = {"host": socket.gethostname(), "home": HOME, "cpus": os.cpu_count(), "memory": int(memory * 0.9)}
    values["tracking"] = "cgroup" if FREEZER.is_dir() else "linuxproc"
    (ETC / "slurm.conf").write_text(SLURM_CONF.format(**values))
    (ETC / "gres.conf").write_text(GRES_CONF)
    (ETC / "cgroup.conf").write_text(CGROUP_CONF)
    munge = {name: f"--{name}={HOME}/munge.{name.partition('-')[0]}" for name in ("key-file", "pid-file", "log-file")}
    start("munged", "--foreground", f"--socket={HOME}/munge.socket", f"--seed-file={HOME}/munge.seed", *munge.values())
    wait_for((HOME / "munge.socket").exists, "munged makes no socket")
    start("slurmctld", "-D")
    start_node()


def start_node() -> None:
    """Start slurmd, again after `lose_node`, and wait until the node is idle."""
    start("slurmd", "-D", "-N", NODE)
    wait_for(lambda: node_state() == "idle", f"the node does not become idle; its log is {HOME}/slurmd.log")


def lose_node() -> None:
    """As a host that is gone looks to the rest: slurmd and the steps that it started end at once, without a word."""
    end(read_pid("slurmd"), signal.SIGKILL)
    kill_steps()
    for pid in steps():
        end(pid, signal.SIGKILL)


def kill_steps() -> None:
    """SIGKILL to all that jobs run, as for memory. (`scancel --signal=KILL` is no such thing: SIGTERM comes before.)"""
    for pid in steps():
        for child in descendants(pid):
            end(child, signal.SIGKILL)


def steps() -> list[int]:
    """The slurmstepd processes of this machine: each is the parent of a job's step."""
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal() and name_of(int(p.name)) == "slurmstepd"]


def descendants(pid: int) -> list[int]:
    """Children of a process and theirs, the youngest first."""
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return []
    return [found for child in children for found in [*descendants(child), child]]


def down() -> None:
    """Cancel all jobs, stop the daemons, delete their folder and the two files in /etc/slurm."""
    refuse_foreign()
    if read_pid("slurmctld"):
        subprocess.run(["scancel", "--full", "-u", "root"], check=False, capture_output=True, timeout=30)
        with contextlib.suppress(NotPossibleError):
            wait_for(lambda: not queue(), "jobs do not end", seconds=KILL_WAIT_S + 15)
    for daemon in ("slurmd", "slurmctld", "munged"):
        if pid := read_pid(daemon):
            end(pid, signal.SIGTERM)
            if not until(lambda daemon=daemon: not read_pid(daemon), 10):
                end(pid, signal.SIGKILL)
    for pid in steps():
        end(pid, signal.SIGKILL)
    for folder in sorted(FREEZER.glob(f"slurm_{NODE}/**/"), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()
    for conf in CONFS:
        (ETC / conf).unlink(missing_ok=True)
    shutil.rmtree(HOME, ignore_errors=True)


def queue() -> list[str]:
    """Living jobs, as `id comment folder`."""
    return ask("squeue", "--noheader", "--format=%A %k %Z").splitlines()


def told() -> list[str]:
    """All that SLURM tells of jobs: their records and steps, every column of the queue, and their scripts."""
    scripts = [ask("scontrol", "write", "batch_script", job.split()[0], "-") for job in queue()]
    return [
        ask("scontrol", "show", "job", "--details", "--details"),
        ask("scontrol", "show", "step"),
        ask("squeue", "--format=%all"),
        *scripts,
    ]


def node_state() -> str:
    return ask("sinfo", "--noheader", "--format=%T").strip()


def ask(*command: str) -> str:
    """What a SLURM command prints; nothing, while the controller does not answer."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout
    except subprocess.TimeoutExpired:
        return ""


def start(program: str, *arguments: str) -> None:
    """A daemon in a session of its own; `read_pid` finds it again."""
    with (HOME / f"{program}.out").open("ab") as out:
        daemon = subprocess.Popen(
            [program, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    (HOME / f"{program}.started").write_text(str(daemon.pid))
    time.sleep(0.2)
    if daemon.poll() is not None:
        raise NotPossibleError(f"{program} ended at once: {(HOME / f'{program}.out').read_text()[-500:]}")


def read_pid(program: str) -> int | None:
    """The process of a daemon that `start` started, if it lives."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((HOME / f"{program}.started").read_text())
        return pid if name_of(pid).startswith(program[:15]) else None
    return None


def name_of(pid: int) -> str:
    """A process's name; of one that has ended and nobody has waited for: nothing."""
    with contextlib.suppress(OSError):
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        return "" if rest.split()[0] == "Z" else name
    return ""


def end(pid: int | None, how: signal.Signals) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not (fine := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return fine


def wait_for(condition: Callable[[], bool], otherwise: str, seconds: float = 60) -> None:
    if not until(condition, seconds):
        raise NotPossibleError(otherwise)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("up", "down", "remove"))
    what = parser.parse_args().what
    try:
        if what == "up":
            install()
        {"up": up, "down": down, "remove": remove}[what]()
    except NotPossibleError as error:
        raise SystemExit(f"cluster: {error}") from None


if __name__ == "__main__":
    main()
