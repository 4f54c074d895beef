"""What runs in a child of `code_check`: a program that fences itself in, then runs an answer's code, or the tests.

It is started with the interpreter's own library only, and with one socket as file 0. First it gives up all system
calls but a short list, by a seccomp filter that binds every user, root too, and cannot be taken back: what is left
is to compute, to read and write files that are open, and to end. These are the socket and /dev/null. So no file can be
opened, made or looked for, no process or thread started, no signal sent, no socket made. The filter is the kernel's,
so nothing that code does inside of Python reaches it. What the code imports are files, so it is imported before.

Of the two children of a check one has the code and never sees a test; the other has the tests and never sees the code.
They exchange arguments and values through the parent, one JSON document per line.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import itertools
import json
import math
import os
import resource
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from types import CodeType, ModuleType
from typing import Any, BinaryIO

MACHINE = os.uname().machine
ITEMS = 100_000
"""Most items that are taken of an iterator."""
# asm/unistd_64.h and asm-generic/unistd.h; AUDIT_ARCH_* of linux/audit.h. What computing takes …
COMPUTING = {
    "x86_64": (0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 28, 35, 39, 60, 96, 98, 100, 131, 186, 201, 202, 219,
               228, 229, 230, 231, 318, 324),
    "aarch64": (57, 62, 63, 64, 80, 93, 94, 98, 101, 113, 114, 115, 124, 128, 132, 134, 135, 139, 153, 165, 169, 172,
                178, 214, 215, 216, 222, 226, 233, 278, 283),
}  # fmt: skip
"""read write close fstat lseek mmap mprotect munmap mremap madvise brk rt_sigaction rt_sigprocmask rt_sigreturn
sigaltstack sched_yield nanosleep getpid gettid exit exit_group time gettimeofday getrusage times futex restart_syscall
clock_gettime clock_getres clock_nanosleep getrandom membarrier."""
# … and what importing takes beside it, which is given up before any code of the answer runs.
IMPORTING = {
    "x86_64": (2, 4, 6, 16, 17, 21, 32, 72, 79, 89, 157, 217, 257, 262, 267, 269, 332, 439),
    "aarch64": (17, 23, 25, 29, 48, 56, 61, 67, 78, 79, 167, 291, 439),
}
"""open openat stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents64 getcwd pread64
ioctl fcntl dup prctl."""
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000  # REFUSE: EPERM
PDEATHSIG, DUMPABLE, SECCOMP, NO_NEW_PRIVS, SIGKILL = 1, 4, 22, 38, 9

LAZY = {
    "datetime": ("_strptime",),
    "time": ("_strptime",),
    "functools": ("types", "weakref"),
    "codecs": ("encodings.rot_13", "encodings.hex_codec", "encodings.base64_codec", "encodings.idna"),
}
"""What modules import later, when a function of theirs is called."""


class _Program(ctypes.Structure):
    """struct sock_fprog of linux/filter.h."""

    _fields_ = (("size", ctypes.c_ushort), ("code", ctypes.c_char_p))


def _prctl(option: int, *values: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, *values, *(ctypes.c_ulong(0) for _ in range(4 - len(values)))):
        raise OSError(ctypes.get_errno(), f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def fence(*allowed: int) -> None:
    """From now on every other system call fails with EPERM. Filters add up: what one refuses, none gives back.

    Raises OSError where the kernel has no filters.
    """
    load, equal, leave = 0x20, 0x15, 0x06
    lines = [(load, 0, 0, 4), (equal, 1, 0, ARCHITECTURE[MACHINE]), (leave, 0, 0, KILL), (load, 0, 0, 0)]
    for number in allowed:
        lines += [(equal, 0, 1, number), (leave, 0, 0, ALLOW)]
    lines.append((leave, 0, 0, REFUSE))
    code = b"".join(struct.pack("=HBBI", *line) for line in lines)
    _prctl(SECCOMP, ctypes.c_ulong(2), ctypes.byref(_Program(len(lines), code)))


def enclose(cpu_s: int, memory: int) -> str:
    """Limits and the first filter. Returns why that cannot be had here, or an empty string."""
    if MACHINE not in ARCHITECTURE or sys.maxsize < 2**32:
        return f"no list of system calls for {MACHINE}"
    try:
        _prctl(PDEATHSIG, ctypes.c_ulong(SIGKILL))
        _prctl(DUMPABLE, ctypes.c_ulong(0))
        for limit, most in (
            (resource.RLIMIT_CPU, cpu_s),
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_CORE, 0),
        ):
            hard = resource.getrlimit(limit)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(limit, (most, most))
        _prctl(NO_NEW_PRIVS, ctypes.c_ulong(1))
        fence(*COMPUTING[MACHINE], *IMPORTING[MACHINE])
    except OSError as error:
        return str(error)
    return ""


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules of the standard library that the code names in its imports, outer packages first."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] in sys.stdlib_module_names and not any(part.startswith("_") for part in parts):
                yield from itertools.accumulate(parts, "{}.{}".format)


def pack(value: object) -> Any:
    """A value as JSON: scalars as they are, the rest as [kind, content]. TypeError for what is not plain data."""
    if value is None or isinstance(value, bool | str | int | float):
        return value
    if isinstance(value, dict):
        return ["dict", [[pack(key), pack(item)] for key, item in value.items()]]
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, [pack(item) for item in value]]
    if isinstance(value, bytes | bytearray):
        return ["bytes", value.hex()]
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    if hasattr(value, "as_integer_ratio"):
        return ["Fraction", list(value.as_integer_ratio())]
    if isinstance(value, Iterable):
        return ["iter", [pack(item) for item in itertools.islice(value, ITEMS)]]
    raise TypeError("not plain data")


UNPACK: dict[str, Callable[[Any], Any]] = {
    "dict": lambda pairs: {unpack(key): unpack(item) for key, item in pairs},
    "list": lambda items: [unpack(item) for item in items],
    "tuple": lambda items: tuple(map(unpack, items)),
    "set": lambda items: set(map(unpack, items)),
    "frozenset": lambda items: frozenset(map(unpack, items)),
    "bytes": bytes.fromhex,
    "complex": lambda parts: complex(*parts),
    "Fraction": lambda parts: Fraction(*parts),
    "iter": lambda items: iter([unpack(item) for item in items]),
}


def unpack(value: Any) -> Any:
    """The value that `pack` was given, of builtin types only; an iterator for any other iterable."""
    if not isinstance(value, list):
        return value
    kind, content = value
    return UNPACK[kind](content)


class NoValueError(Exception):
    """The answer's function gave no value: `why`, and the type of what it raised."""

    def __init__(self, reply: dict[str, Any]) -> None:
        super().__init__()
        self.outcome = {"why": reply.get("why"), "error": reply.get("error")}


class Channel:
    """Lines to and from the parent."""

    def __init__(self, file: int) -> None:
        self.reader: BinaryIO = open(file, "rb", closefd=False)  # noqa: SIM115 open for good
        self.writer: BinaryIO = open(file, "wb", closefd=False)  # noqa: SIM115

    def say(self, document: object) -> None:
        self.writer.write(json.dumps(document).encode() + b"\n")
        self.writer.flush()

    def hear(self) -> Any:
        line = self.reader.readline()
        if not line:
            os._exit(0)
        return json.loads(line)


def defined(code: str, function: str | None) -> Any:
    """Run the code; returns the function of that name, or else the first that it defines. Raises what it raises."""
    sys.modules["answer"] = ModuleType("answer")  # dataclasses look themselves up there
    space = vars(sys.modules["answer"])
    exec(compile(code, "answer", "exec", dont_inherit=True), space)
    if function:
        return space.get(function)
    made = (v for v in space.values() if callable(v) and not isinstance(v, type))
    return next((v for v in made if getattr(v, "__module__", "") == "answer"), None)


def answer(channel: Channel, code: str, function: str | None) -> None:
    """Run the code, then each call that the parent sends, and send back what comes of it."""
    called, failure = None, {"why": "no function"}
    try:
        called = defined(code, function)
    except BaseException as error:
        failure = {"why": "raised", "error": type(error).__name__}
    while True:
        call = channel.hear()
        channel.say(called_with(called, *map(unpack, call)) if callable(called) else failure)


def called_with(called: Callable[..., object], arguments: Any, keywords: Any) -> dict[str, Any]:
    """The reply to one call: its value, or why there is none."""
    try:
        value = called(*arguments, **keywords)
    except BaseException as error:
        return {"why": "raised", "error": type(error).__name__}
    try:
        reply = {"value": pack(value)}
        json.dumps(reply)
    except BaseException:
        return {"why": "kind"}
    return reply


def judge(channel: Channel, tests: list[CodeType]) -> None:
    """Evaluate the tests until one is not True, with `f` as the answer's function; say how it went, without values."""

    def f(*arguments: object, **keywords: object) -> Any:
        channel.say({"test": number, "call": [pack(arguments), pack(keywords)]})
        reply = channel.hear()
        if "value" not in reply:
            raise NoValueError(reply)
        return unpack(reply["value"])

    for number, test in enumerate(tests):
        outcome: dict[str, Any] = {"why": "no"}
        try:
            if eval(test, {"f": f, "math": math}) is True:
                continue
        except NoValueError as failed:
            outcome = failed.outcome
        except BaseException as error:
            outcome = {"why": "test raised", "error": type(error).__name__}
        channel.say({"holds": False, "test": number, **outcome})
        return
    channel.say({"holds": True})


def main() -> None:
    """Serve one check. The job is the first line: `code` and `function`, or `tests`; `cpu_s` and `memory` (bytes)."""
    channel, null = Channel(os.dup(0)), os.open(os.devnull, os.O_RDWR)
    for file in (0, 1, 2):
        os.dup2(null, file)
    sys.dont_write_bytecode = True
    job = channel.hear()
    trouble = enclose(job["cpu_s"], job["memory"])
    channel.say({"trouble": trouble})
    if trouble:
        return
    tests = [compile(test, "test", "eval", dont_inherit=True) for test in job.get("tests", ())]
    names = ["__future__", "unicodedata"]
    with contextlib.suppress(Exception):  # compiling says it again
        names += imported(ast.parse(job.get("code", "")))
    for name in [*names, *itertools.chain.from_iterable(LAZY.get(name, ()) for name in names)]:
        try:
            __import__(name)
        except BaseException:  # the code's own import says it again
            continue
    fence(*COMPUTING[MACHINE])
    if tests:
        judge(channel, tests)
    else:
        answer(channel, job["code"], job["function"])


if __name__ == "__main__":
    main()
