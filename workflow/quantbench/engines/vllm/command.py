"""Server spec → the exact command and environment of `vllm serve`, and what both say of caches."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from quantbench.config.own_settings import DROPPED, argument
from quantbench.config.secret_words import names_secret
from quantbench.engines.protocol import Hub
from quantbench.errors import QuantbenchError
from quantbench.observe import given
from quantbench.records.server import HOST, Mode, ServerSettings, ServerSpec

UNSET: tuple[str, ...] = (
    *DROPPED,
    # Snakemake gives every job one thread by these; that is not meant for a server.
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Variables of the caller that no server inherits; `threads` and `env` set those of threads anew."""


def command(spec: ServerSpec, mode: Mode) -> tuple[list[str], dict[str, str]]:
    """Return (argv, additions to the environment).

    `mode` is the resolved one (`serving.server.mode_of`): sleep mode adds a flag. Raises QuantbenchError for a
    CPU server without `kv_cache_gib`, which would take 92 % of the machine's memory.
    """
    settings = spec.settings
    argv = [*settings.command, "serve", spec.source]
    argv += ["--served-model-name", spec.served_name, "--host", HOST, "--port", str(spec.port)]
    argv += ["--max-model-len", str(settings.max_model_len), "--max-num-seqs", str(settings.max_num_seqs)]
    argv += ["--dtype", settings.dtype]
    argv += ["--enable-prefix-caching" if settings.prefix_caching else "--no-enable-prefix-caching"]
    # vLLM's own sampling defaults, not those that a checkpoint brings; and no line per request in the log
    argv += ["--generation-config", "vllm", "--disable-uvicorn-access-log"]
    if settings.quantization:
        argv += ["--quantization", settings.quantization]
    if settings.load_format != "auto":
        argv += ["--load-format", settings.load_format]
    if settings.kv_cache_gib:
        argv += ["--kv-cache-memory-bytes", str(int(settings.kv_cache_gib * 2**30))]
    env = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    # Each layer's quantization method in the log: the evidence that a variant is quantized.
    env |= {"VLLM_LOGGING_LEVEL": "INFO", "VLLM_LOG_MODEL_INSPECTION": "1"}
    # What its processes tell each other stays on this machine: Gloo and NCCL listen where the host's name leads to.
    env |= {"VLLM_HOST_IP": HOST, "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    more, more_env = _cpu(settings) if spec.platform == "cpu" else _cuda(spec, mode)
    return [*argv, *more, *settings.args], env | more_env | settings.env


def _cpu(settings: ServerSettings) -> tuple[list[str], dict[str, str]]:
    if not settings.kv_cache_gib:
        raise QuantbenchError(
            "config: server.kv_cache_gib is not set; without it a CPU server takes 92 % of the memory",
            remedy="set server.kv_cache_gib (for example 0.25)",
        )
    # The engine in the process of its worker, threads not pinned: with one process more, two cores deliver whole
    # replies in one burst, and the time to the first token is lost.
    env = {
        "CUDA_VISIBLE_DEVICES": "",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        # Eager means all of it: a stray kernel (the ranks of logprobs) would compile for 20 s at its first request.
        "TORCHDYNAMO_DISABLE": "1",
        "OMP_NUM_THREADS": str(settings.threads or 1),
    }
    return ["--enforce-eager"], env


def _cuda(spec: ServerSpec, mode: Mode) -> tuple[list[str], dict[str, str]]:
    settings = spec.settings
    env = {given.CUDA: ",".join(map(given.real, spec.devices)), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    argv = ["--gpu-memory-utilization", str(settings.gpu_memory_utilization)]
    if settings.tensor_parallel_size > 1:
        argv += ["--tensor-parallel-size", str(settings.tensor_parallel_size)]
    if settings.enforce_eager:
        argv += ["--enforce-eager"]
    if settings.threads:
        env["OMP_NUM_THREADS"] = str(settings.threads)
    if mode == "sleep":
        argv += ["--enable-sleep-mode"]
        env["VLLM_SERVER_DEV_MODE"] = "1"  # without it there is no /sleep; the server listens on loopback only
    return argv, env


def serve_script(spec: ServerSpec, mode: Mode) -> str:
    """The same command as a script to run by hand, from any folder: it goes to the one where snakemake runs."""
    argv, env = command(spec, mode)
    lines = ["#!/bin/sh", f"# The server of {spec.model}, exactly as quantbench starts it (spec {spec.hash})."]
    lines += [f"cd {shlex.quote(str(Path.cwd()))} || exit", f"unset {' '.join(UNSET)}"]
    lines += [f"export {key}={shlex.quote(value)}" for key, value in env.items()]
    groups: list[list[str]] = [[]]
    for word in argv:
        if word.startswith("--") and groups[-1]:
            groups.append([])
        groups[-1].append(shlex.quote(word))
    lines += ["exec " + " \\\n  ".join(" ".join(group) for group in groups)]
    return "\n".join(lines) + "\n"


def inherited(spec: ServerSpec, mode: Mode) -> dict[str, str]:
    """Variables of the caller that vLLM reads and the spec does not set: not part of the spec, but of the result.

    Values of vLLM's are kept where they cannot be secret (switches, numbers, names of choices); others are `set`.
    """
    own = command(spec, mode)[1]
    names = (name for name in sorted(os.environ) if name.startswith(("VLLM_", "OMP_", "MKL_", "KMP_")))
    return {name: _shown(name, os.environ[name]) for name in names if name not in own and name not in UNSET}


_NUMBER_OR_SWITCH = re.compile(r"-?\d+(\.\d+)?|true|false|on|off|yes|no|auto|none|", re.IGNORECASE)
_CHOICES = (
    "VLLM_ATTENTION_BACKEND",
    "VLLM_WORKER_MULTIPROC_METHOD",
    "VLLM_CPU_OMP_THREADS_BIND",
    "VLLM_KV_CACHE_LAYOUT",
)


def _shown(name: str, value: str) -> str:
    if names_secret(name, value):
        return "set"
    harmless = not name.startswith("VLLM_") or name in _CHOICES or _NUMBER_OR_SWITCH.fullmatch(value)
    return value if harmless else "set"


_COMPILE_CACHES = {"VLLM_CACHE_ROOT": "vllm", "TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}


def compile_caches(folder: Path) -> dict[str, str]:
    """Variables that put the compile caches below `folder`: vLLM's own, and Triton's and Inductor's beside it."""
    return {key: str(folder / name) for key, name in _COMPILE_CACHES.items()}


def hub(spec: ServerSpec) -> Hub:
    """Where vLLM looks for a hub model, by its arguments and by huggingface_hub's variables."""
    env = {**os.environ, **spec.settings.env}
    args = spec.settings.args
    if path := argument(args, "--download-dir") or env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE"):
        cache = path
    else:
        home = env.get("HF_HOME") or f"{env.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
        cache = f"{home}/hub"
    return Hub(Path(os.path.expandvars(cache)).expanduser(), argument(args, "--revision") or "main")
