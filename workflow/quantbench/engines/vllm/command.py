"""Server spec → the exact command and environment of `vllm serve`, and what both say of caches."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from quantbench.engines.protocol import HOST, Hub, Spec, spec_hash
from quantbench.errors import QuantbenchError

UNSET: tuple[str, ...] = (
    "VLLM_CPU_KVCACHE_SPACE",
    "VLLM_API_KEY",
    "VLLM_CONFIGURE_LOGGING",
    "VLLM_LOGGING_CONFIG_PATH",
    "VLLM_LOGGING_PREFIX",
    # Snakemake gives every job one thread by these; that is not meant for a server.
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Variables that would overrule the spec, lock us out, or hide what the log says; `threads` and `env` set them anew."""


def command(spec: Spec, mode: str) -> tuple[list[str], dict[str, str]]:
    """Return (argv, additions to the environment).

    `mode` is the resolved one (`serving.server.resolve_mode`): sleep mode adds a flag. Raises QuantbenchError for a
    CPU server without `kv_cache_gib`, which would take 92 % of the machine's memory.
    """
    settings = spec["settings"]
    argv = [*map(str, settings["command"]), "serve", str(spec["source"])]
    argv += ["--served-model-name", str(spec["served_name"]), "--host", HOST, "--port", str(spec["port"])]
    argv += ["--max-model-len", str(settings["max_model_len"]), "--max-num-seqs", str(settings["max_num_seqs"])]
    argv += ["--dtype", str(settings["dtype"])]
    argv += ["--enable-prefix-caching" if settings.get("prefix_caching") else "--no-enable-prefix-caching"]
    # vLLM's own sampling defaults, not those that a checkpoint brings; and no line per request in the log
    argv += ["--generation-config", "vllm", "--disable-uvicorn-access-log"]
    if settings.get("quantization"):
        argv += ["--quantization", str(settings["quantization"])]
    if settings.get("load_format", "auto") != "auto":
        argv += ["--load-format", str(settings["load_format"])]
    if settings.get("kv_cache_gib"):
        argv += ["--kv-cache-memory-bytes", str(int(settings["kv_cache_gib"] * 2**30))]
    env = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    # Each layer's quantization method in the log: the evidence that a variant is quantized.
    env |= {"VLLM_LOGGING_LEVEL": "INFO", "VLLM_LOG_MODEL_INSPECTION": "1"}
    more, more_env = _cpu(settings) if spec["platform"] == "cpu" else _cuda(spec, settings, mode)
    return [*argv, *more, *map(str, settings.get("args") or [])], env | more_env | dict(settings.get("env") or {})


def _cpu(settings: Spec) -> tuple[list[str], dict[str, str]]:
    if not settings.get("kv_cache_gib"):
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
        "OMP_NUM_THREADS": str(settings.get("threads") or 1),
    }
    return ["--enforce-eager"], env


def _cuda(spec: Spec, settings: Spec, mode: str) -> tuple[list[str], dict[str, str]]:
    env = {"CUDA_VISIBLE_DEVICES": ",".join(spec["devices"]), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    argv = ["--gpu-memory-utilization", str(settings["gpu_memory_utilization"])]
    if int(settings.get("tensor_parallel_size") or 1) > 1:
        argv += ["--tensor-parallel-size", str(settings["tensor_parallel_size"])]
    if settings.get("enforce_eager"):
        argv += ["--enforce-eager"]
    if settings.get("threads"):
        env["OMP_NUM_THREADS"] = str(settings["threads"])
    if mode == "sleep":
        argv += ["--enable-sleep-mode"]
        env["VLLM_SERVER_DEV_MODE"] = "1"  # without it there is no /sleep; the server listens on loopback only
    return argv, env


def serve_script(spec: Spec, mode: str) -> str:
    """The same command as a script to run by hand, in the folder where snakemake runs."""
    argv, env = command(spec, mode)
    lines = ["#!/bin/sh", f"# The server of {spec['model']}, exactly as quantbench starts it (spec {spec_hash(spec)})."]
    lines += [f"unset {' '.join(UNSET)}"]
    lines += [f"export {key}={shlex.quote(value)}" for key, value in env.items()]
    groups: list[list[str]] = [[]]
    for word in argv:
        if word.startswith("--") and groups[-1]:
            groups.append([])
        groups[-1].append(shlex.quote(word))
    lines += ["exec " + " \\\n  ".join(" ".join(group) for group in groups)]
    return "\n".join(lines) + "\n"


def inherited(spec: Spec, mode: str) -> dict[str, str]:
    """Variables of the caller that vLLM reads and the spec does not set: not part of the spec, but of the result."""
    own = command(spec, mode)[1]
    return {
        key: value
        for key, value in sorted(os.environ.items())
        if key.startswith(("VLLM_", "OMP_", "MKL_", "KMP_")) and key not in own and key not in UNSET
    }


_COMPILE_CACHES = {"VLLM_CACHE_ROOT": "vllm", "TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}


def compile_caches(folder: Path) -> dict[str, str]:
    """Variables that put the compile caches below `folder`: vLLM's own, and Triton's and Inductor's beside it."""
    return {key: str(folder / name) for key, name in _COMPILE_CACHES.items()}


def hub(spec: Spec) -> Hub:
    """Where vLLM looks for a hub model, by its arguments and by huggingface_hub's variables."""
    env = {**os.environ, **(spec["settings"].get("env") or {})}
    if path := _argument(spec, "--download-dir") or env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE"):
        cache = Path(path)
    else:
        home = env.get("HF_HOME") or Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
        cache = Path(home) / "hub"
    return Hub(cache, _argument(spec, "--revision") or "main")


def _argument(spec: Spec, name: str) -> str | None:
    """The value of an argument of `server.args`, in any of its spellings (--a-b v, --a_b=v); None without it."""
    words = [str(word) for word in spec["settings"].get("args") or []]
    for at, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag.replace("_", "-") == name.replace("_", "-"):
            return value if equals else next(iter(words[at + 1 :]), None)
    return None
