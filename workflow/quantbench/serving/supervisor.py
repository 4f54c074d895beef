"""The detached parent of one server: it ends the server when its run ends, however that happens.

`python -m quantbench.serving.supervisor FOLDER` reads FOLDER/launch.json. The server ends when its owner is gone
(pidfd), on SIGTERM, or when it was not leased for `idle_s`. A guardian, forked before the server, does the same if the
supervisor itself is killed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from quantbench.errors import QuantbenchError
from quantbench.observe import programs
from quantbench.records.base import write
from quantbench.records.serving import Ended, Launch, ServerProcesses, State
from quantbench.serving import claims, owner, processes, registry, trust

_LOOK_S = 1.0


class EndSignals:
    """What ends a server: its owner's end, its own, or SIGTERM to this process."""

    def __init__(self, owner_token: str) -> None:
        self.requested = False
        self.wake_r, wake_w = os.pipe()
        os.set_blocking(wake_w, False)
        signal.set_wakeup_fd(wake_w)
        signal.signal(signal.SIGTERM, self._request)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.owner = processes.pidfd(owner_token)

    def _request(self, *_: object) -> None:
        self.requested = True

    def next(self, server: int) -> str | None:
        """Wait a second at most; why the server has to end, if it has to."""
        if self.owner is None:
            return "owner gone"
        ready, _, _ = select.select([self.owner, server, self.wake_r], [], [], _LOOK_S)
        if self.requested:
            return "requested"
        if self.owner in ready:
            return "owner gone"
        return "ended by itself" if server in ready else None


def clean(folder: Path, of: Launch | State) -> list[str]:
    """SIGKILL what is left of a server, remove its shared memory and sockets; returns the names in /dev/shm."""
    leader = registry.leader(folder.name)
    seen = registry.shared_memory(folder.name) | processes.shared_memory(processes.members(of.mark, leader, of.log))
    processes.kill_members(of.mark, leader, of.log)
    trust.remove_scratch(of.scratch)
    return processes.remove_shared_memory(seen)


def guardian(folder: Path, launch: Launch, supervisor: str) -> None:
    """The guardian's life: wait for the supervisor's end, then clean up what it may have left."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    fd = processes.pidfd(supervisor)
    if fd is not None:
        select.select([fd], [], [])
    clean(folder, launch)
    if folder.exists() and not (folder / "ended.json").exists():
        write(folder / "ended.json", Ended(why="supervisor killed"))
        registry.add_event(launch.home, "stop", why="supervisor killed")


def spawn(launch: Launch) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own; it dies with this process."""
    dropped = {*launch.unset, processes.SUPERVISES}
    env = {key: value for key, value in os.environ.items() if key not in dropped}
    # The server leaves its sockets in the temporary folder, so it gets its own; PyTorch's compile cache does not move,
    # unless somebody else has made the folder of that name: PyTorch runs the code that it finds there.
    cache = Path(tempfile.gettempdir()) / f"torchinductor_{os.getuid()}"
    with contextlib.suppress(OSError):
        cache.mkdir(mode=0o700, exist_ok=True)
    if trust.is_ours(cache, writers=0o002):  # PyTorch makes it under the umask
        env.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
    paths = [p for p in env.pop("PYTHONPATH", "").split(os.pathsep) if p and p != str(owner.LIBRARY)]
    if paths:  # our own library is not for the server
        env["PYTHONPATH"] = os.pathsep.join(paths)
    env |= launch.env | {processes.MARK: launch.mark, "TMPDIR": launch.scratch}
    with registry.open_log(Path(launch.log)) as log:
        return subprocess.Popen(
            launch.argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=processes.die_with_parent,  # noqa: PLW1509 - this process has one thread
        )


def not_started(folder: Path, launch: Launch, error: Exception) -> None:
    """Say in the server's log and in ended.json why there is no server, and clean up."""
    why, remedy = programs.not_started(launch.argv[0], "server.command", error)
    with contextlib.suppress(OSError, QuantbenchError), registry.open_log(Path(launch.log)) as log:
        log.write(f"quantbench: the server could not be started: {why}\n".encode())
    clean(folder, launch)
    write(folder / "ended.json", Ended(why=why, remedy=remedy))


def idle(folder: Path, idle_s: float) -> bool:
    """Was the server not leased for this long (`used` is touched by every lease)?"""
    with contextlib.suppress(FileNotFoundError):
        return time.time() - (folder / "used").stat().st_mtime > idle_s
    return False


def watch_server(folder: Path, launch: Launch, server: subprocess.Popen[bytes], signals: EndSignals) -> str:
    """Wait until the server has to end or has ended; keeps the list of its shared memory up to date."""
    fd = os.pidfd_open(server.pid)
    leader = processes.token(server.pid)
    listing: dict[str, int] = {}
    seen: dict[str, int] = {}
    while True:
        if why := signals.next(fd):
            return why
        if (now := processes.shm_listing()) != listing:
            listing = now
            seen |= processes.shared_memory(processes.members(launch.mark, leader, launch.log))
            write(folder / "shm.json", seen)
        if idle(folder, launch.idle_s):
            with claims.try_hold(launch.devices) as free:
                if free and idle(folder, launch.idle_s):
                    return "idle"


def terminate(server: subprocess.Popen[bytes], launch: Launch, leader: str) -> int | None:
    """SIGTERM the API server, and after a grace SIGKILL everything; its return code.

    Only the API server is asked: it ends its engine in order. A request in flight can make it wait for ever, hence
    the grace. Frozen processes are continued first, or they would never see the signal.
    """
    processes.signal_all(processes.members(launch.mark, leader, launch.log), signal.SIGCONT)
    server.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        return server.wait(launch.grace_s)
    return None


def supervise(folder: Path) -> None:
    """Start the server and stay until it has ended."""
    launch = trust.read(folder / "launch.json", Launch)
    signals, me = EndSignals(launch.owner), processes.token(os.getpid())
    if os.fork() == 0:
        try:
            guardian(folder, launch, me)
        finally:
            os._exit(0)
    try:
        server = spawn(launch)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        not_started(folder, launch, error)
        return
    leader, why, code = processes.token(server.pid), "supervisor failed", None
    write(folder / "process.json", ServerProcesses(server=leader, supervisor=me))
    try:
        why = watch_server(folder, launch, server, signals)
        if why != "ended by itself":
            code = terminate(server, launch, leader)
    finally:
        code = server.poll() if code is None else code
        removed = clean(folder, launch)
        server.poll()
        write(folder / "ended.json", Ended(why=why, returncode=code, shared_memory_removed=tuple(removed)))
        if why != "requested":  # else the one who requested it records it
            registry.add_event(launch.home, "stop", why=why, returncode=code)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]))
