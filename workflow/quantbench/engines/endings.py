"""Why a process ended that nobody of us ended: the signal, and what the kernel counts of kills for memory."""

from __future__ import annotations

import contextlib
from pathlib import Path
from signal import Signals
from typing import NamedTuple

_ELSEWHERE = "by another program or person, as quantbench did not ask it to"
_SAID: dict[int, tuple[str, str]] = {
    Signals.SIGKILL: (
        "most likely out of host memory",
        "free host memory (`free -h`), ask the job scheduler or the container for more, or serve a smaller model",
    ),
    Signals.SIGSEGV: (
        "a crash in compiled code",
        "make the vLLM environment again with the set-up command; if it stays so, try enforce_eager: true",
    ),
    Signals.SIGBUS: (
        "as when /dev/shm is full",
        "give /dev/shm room (`df -h /dev/shm`; a container takes --shm-size or --ipc=host)",
    ),
    Signals.SIGABRT: ("it gave up by itself", "read the log; the cause is above its end"),
    Signals.SIGILL: ("this processor lacks an instruction of the build", "install vLLM for this processor"),
    Signals.SIGTERM: (_ELSEWHERE, "see what ends processes here (a job scheduler, a limit of time), then run it again"),
    Signals.SIGINT: (_ELSEWHERE, "run the same command again"),
}
WORDS = {
    "Killed": Signals.SIGKILL, "Segmentation fault": Signals.SIGSEGV, "Bus error": Signals.SIGBUS,
    "Aborted": Signals.SIGABRT, "Illegal instruction": Signals.SIGILL, "Terminated": Signals.SIGTERM,
}  # fmt: skip
"""What a shell or Python's faulthandler writes of a process that a signal ended."""


class Ending(NamedTuple):
    """What ended a process, and what to do."""

    cause: str
    remedy: str


def of_signal(number: int, kills: int | None = None) -> Ending:
    """What a signal says that ended a process. kills: `out_of_memory_kills`, which makes a likely cause a known one."""
    why, remedy = _SAID.get(number, ("", "read the log"))
    with contextlib.suppress(ValueError):
        why += f" ({Signals(number).name})"
    if number == Signals.SIGKILL and kills is not None:
        why += (
            f"; the kernel counts {kills} kills for memory in this control group"
            if kills
            else "; but the kernel counts no kill for memory in this control group, which speaks against it"
        )
    return Ending(f"ended by signal {number}, {why.strip()}", remedy)


def signal_of(return_code: int | None) -> int | None:
    """The signal that ended a process, by its code as subprocess or a shell (128 + signal) gives it; None if none."""
    if return_code is None or return_code == 0:
        return None
    number = -return_code if return_code < 0 else return_code - 128
    return number if return_code < 0 or number in _SAID else None


def out_of_memory_kills(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """How often the kernel has killed for memory in the control group of this process; None where it does not tell."""
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            file = "memory.oom_control" if "memory" in controllers.split(",") else "memory.events"
            base = root / "memory" if controllers else root
            # In a container the path may be the host's, while its own group is mounted at the root.
            for folder in (base / path.lstrip("/"), base):
                with contextlib.suppress(OSError):
                    counts = dict(row.split() for row in (folder / file).read_text().splitlines())
                    if "oom_kill" in counts:
                        return int(counts["oom_kill"])
    return None
