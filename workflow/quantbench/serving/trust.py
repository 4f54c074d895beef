"""Only what is ours is read from the state folder, locked in it or removed because of it.

The folder has a name that anybody can guess, in a place where anybody may make one. What lies there says which
processes are to be ended and which folders to be removed, so it has to be this user's own, and no link elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from quantbench.errors import QuantbenchError
from quantbench.records import base

T = TypeVar("T")
STATE = "QUANTBENCH_STATE_DIR"
SCRATCH = "quantbench-tmp-"
"""What the names of our temporary folders begin with; the state folder's does not."""
_STRANGE = (0, errno.ELOOP, errno.EACCES, errno.ENXIO)
"""Errors of opening what is not a file of ours; others say nothing of the file (too many open ones, a bad disk)."""


def folder(path: Path, *, make: bool = True) -> Path:
    """The folder, made if it is not there, for this user only.

    Raises QuantbenchError with its owner and mode if it is a link, somebody else's, or others may write to it.
    """
    why = ""
    try:
        if make:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if make or os.path.lexists(path):
            why = _not_ours(path.lstat(), stat.S_ISDIR, "folder")
    except OSError as error:
        raise QuantbenchError(
            f"the state folder {path} cannot be made: {error.strerror}",
            remedy=f"set {STATE} to a folder that you may write to",
        ) from None
    if why:
        raise QuantbenchError(
            f"the state folder {path} is not used: {why}",
            remedy=f"set {STATE} to a folder of your own; or have its owner remove this one, or, if it is yours and "
            f"nobody else has written to it: chmod 700 {path}",
        )
    return path


def is_ours(path: Path, writers: int = 0o022) -> bool:
    """Is this a real folder of this user's, which nobody else may write to? writers: the bits that must not be set."""
    with contextlib.suppress(OSError):
        return not _not_ours(path.lstat(), stat.S_ISDIR, "folder", writers)
    return False


def read(path: Path, kind: type[T]) -> T:
    """A file of the state folder as `kind`. Raises QuantbenchError as `records.base.read`, and for what is not ours.

    FileNotFoundError or NotADirectoryError where there is none (any more).
    """
    try:
        with os.fdopen(_open(path, os.O_RDONLY), "rb") as file:
            return base.parse(file.read(), kind, path)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        if error.errno not in _STRANGE:
            raise
        raise QuantbenchError(f"{path} is not read: {error.strerror}", remedy="remove it") from None


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a file of the state folder. Raises BlockingIOError if it is taken and `wait` is False."""
    try:
        handle = _open(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise QuantbenchError(
            f"{path} cannot be opened: {error.strerror}", remedy=f"remove it, or set {STATE} to another folder"
        ) from None
    try:
        lock(handle, path, wait=wait, remedy=f"set {STATE} to a folder on a disk of this machine")
        yield
    finally:
        os.close(handle)


def lock(handle: int, path: Path, *, wait: bool, remedy: str) -> None:
    """flock. Raises BlockingIOError if it is taken and `wait` is False, QuantbenchError where its disk has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        raise QuantbenchError(f"{path} cannot be locked: {error.strerror}", remedy=remedy) from None


def make_scratch() -> str:
    """A new temporary folder for a server's sockets."""
    return tempfile.mkdtemp(prefix=SCRATCH)


def remove_scratch(path: str) -> bool:
    """Remove a folder that `make_scratch` has made, and nothing else; True if it was one."""
    place = Path(path)
    named_so = re.fullmatch(rf"{SCRATCH}[a-z0-9_]{{8}}", place.name)
    with contextlib.suppress(OSError):
        if named_so and place.parent.samefile(tempfile.gettempdir()) and is_ours(place):
            shutil.rmtree(place, ignore_errors=True)
            return True
    return False


def _open(path: Path, flags: int) -> int:
    """A descriptor of a regular file of ours, not of what a link there leads to. Raises OSError."""
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        # Who may write to it does not matter: only this user gets at what lies in this user's folder.
        why = _not_ours(os.fstat(handle), stat.S_ISREG, "file", writers=0)
        if why:
            raise OSError(0, why)
    except OSError:
        os.close(handle)
        raise
    return handle


def _not_ours(info: os.stat_result, right_kind: Callable[[int], bool], name: str, writers: int = 0o022) -> str:
    """Why a folder or file is not to be trusted; "" if it is."""
    if stat.S_ISLNK(info.st_mode):
        return "it is a link"
    if not right_kind(info.st_mode):
        return f"it is no {name}"
    if info.st_uid != os.getuid():
        return f"it belongs to {_user(info.st_uid)}, mode {stat.S_IMODE(info.st_mode):o}"
    if info.st_mode & writers:
        return f"others may write to it (it belongs to you, mode {stat.S_IMODE(info.st_mode):o})"
    return ""


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
