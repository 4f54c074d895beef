"""Programs that are named in the configuration: can they be started, and if one could not, why."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from pathlib import Path


def fault_of(program: str) -> str:
    """Why this program cannot be started, in words that follow its name; empty if nothing is known against it."""
    if "/" not in program:
        found = shutil.which(program)
        return _fault(Path(found)) if found else "does not exist here (it is not on PATH)"
    return _fault(Path(program))


def _fault(path: Path, its_interpreter: bool = True) -> str:
    if not path.exists():
        return "is a link that leads nowhere" if path.is_symlink() else "does not exist here"
    if path.is_dir():
        return "is a folder"
    if not os.access(path, os.X_OK):
        return "is not executable"
    words = interpreter(path) if its_interpreter else []
    if words and (fault := _fault(Path(words[0]), its_interpreter=False)):
        return f"names {words[0]} in its first line, which {fault}"
    return ""


def interpreter(program: Path | str) -> list[str]:
    """The words behind #! in a script's first line; empty where there are none, or they cannot be read."""
    try:
        with Path(program).open("rb") as script:
            first = script.readline(300) if script.read(2) == b"#!" else b""
        return shlex.split(os.fsdecode(first).strip())
    except (OSError, ValueError):
        return []


def not_started(program: str, key: str, error: Exception) -> tuple[str, str]:
    """(cause, remedy) of a program that could not be started, from what was raised; `key` names it in the config."""
    number = getattr(error, "errno", None)
    if number == errno.E2BIG:
        return (
            "its arguments and variables are longer than the system takes for one program",
            "shorten server.args and server.env, or what the shell exports",
        )
    if number in (errno.ENOMEM, errno.EAGAIN):
        words = f"the machine has no memory or no process left for it ({os.strerror(number)})"
        return words, "end other programs, or raise the limits (ulimit -u, ulimit -v)"
    place = getattr(error, "filename", None)
    if number and place and os.fsdecode(place) != program:  # its log
        words = f"{os.fsdecode(place)} cannot be written: {os.strerror(number)}"
        return words, "make room on that disk, or make the file writable for you"
    if isinstance(error, ValueError):  # NUL, or a name with =
        return f"{program}: {error}", "correct server.args or server.env"
    words = f"{program}: {os.strerror(number) if number else error}"
    if number in (errno.ENOENT, errno.EACCES, errno.ENOTDIR) and (fault := fault_of(program)):
        words = f"{program} {fault}"
    elif number == errno.ENOEXEC:
        words = f"{program} is neither a program of this machine nor a script that begins with #!"
    return words, f"make its environment as the README says, or correct {key}"
