"""Arguments and variables of vLLM that quantbench sets itself: what vLLM would take as one, and what to set instead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

_LOOPBACK: Final = "leave it out: one server listens on the loopback interface only, plainly, without a key"
_ONE_SERVER: Final = "leave it out: a model has one server on the devices of its lane (lanes.*.devices)"
_LOG: Final = "leave it out: quantbench reads vLLM's log and metrics, which must be complete and as vLLM writes them"


def _each(remedies: dict[str, str]) -> dict[str, str]:
    return {name: remedy for remedy, names in remedies.items() for name in names.split()}


FLAGS: Final = _each({
    "set models.*.port instead": "port",
    _LOOPBACK: "host uds grpc grpc-port headless api-key root-path middleware allow-credentials allowed-origins "
               "allowed-methods allowed-headers enable-ssl-refresh ssl-keyfile ssl-certfile ssl-ca-certs ssl-cert-reqs "
               "ssl-ciphers kv-events-config",
    _ONE_SERVER: "api-server-count device-ids nnodes node-rank master-addr master-port data-parallel-size "
                 "data-parallel-size-local data-parallel-rank data-parallel-start-rank data-parallel-address "
                 "data-parallel-rpc-port data-parallel-backend data-parallel-hybrid-lb data-parallel-external-lb "
                 "data-parallel-multi-port-external-lb data-parallel-supervisor-port dp-supervisor-probe-interval-s "
                 "dp-supervisor-probe-timeout-s dp-supervisor-probe-failure-threshold",
    _LOG: "disable-log-stats log-config-file logging-config log-level uvicorn-log-level disable-uvicorn-access-log "
          "enable-log-requests enable-log-outputs aggregate-engine-logging",
    "set models.*.source instead": "model",
    "set models.*.served_name instead": "served-model-name",
    "write what that file says as keys of server, or as items of server.args": "config",
    "leave it out: it ends the server": "help",
    "leave it out: all models are asked with vLLM's own sampling defaults": "generation-config",
    "leave it out and export HF_TOKEN in the shell: servers inherit it": "hf-token",
    "set server.max_model_len instead": "max-model-len",
    "set server.max_num_seqs instead": "max-num-seqs",
    "set server.dtype instead": "dtype",
    "set server.prefix_caching instead": "enable-prefix-caching",
    "set server.kv_cache_gib instead": "kv-cache-memory-bytes",
    "set server.gpu_memory_utilization instead": "gpu-memory-utilization device-memory-utilization",
    "set models.*.quantize_flag instead": "quantization",
    "set models.*.load_format instead": "load-format",
    "set lanes.*.mode instead": "enable-sleep-mode",
})  # fmt: skip
"""Long flag without its dashes → what to do. Not here although quantbench may set them: --tensor-parallel-size, as a
lane may be split otherwise (--pipeline-parallel-size), and --enforce-eager, as its --no- is the only way to compile on
a CPU; what both came to is read from the log."""

_SHORT: Final = {"h": "help", "q": "quantization", "n": "nnodes", "r": "node-rank", "asc": "api-server-count"} | {
    f"dp{letter}": "data-parallel-" + rest
    for letter, rest in {
        "": "size", "n": "rank", "r": "start-rank", "l": "size-local", "a": "address", "p": "rpc-port",
        "b": "backend", "h": "hybrid-lb", "e": "external-lb", "m": "multi-port-external-lb",
    }.items()
}  # fmt: skip
_SWITCHES: Final = (
    "allow-credentials", "enable-ssl-refresh", "disable-uvicorn-access-log", "enable-log-requests",
    "enable-log-outputs", "enable-prefix-caching", "enable-sleep-mode", "data-parallel-hybrid-lb",
    "data-parallel-external-lb",
)  # fmt: skip
"""Flags that also have a form with --no-."""
_FAMILIES: Final = {"ssl-": _LOOPBACK, "data-parallel-": _ONE_SERVER, "dp-supervisor-": _ONE_SERVER}
"""Flags that begin so are ours in every version."""
_LONG: Final = {**{name: name for name in FLAGS}, **{f"no-{name}": name for name in _SWITCHES}}

VARIABLES: Final = _each({
    _LOOPBACK: "VLLM_API_KEY VLLM_HOST_IP VLLM_PORT VLLM_LOOPBACK_IP",
    _ONE_SERVER: "CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER VLLM_DP_RANK VLLM_DP_RANK_LOCAL VLLM_DP_SIZE "
                 "VLLM_DP_MASTER_IP VLLM_DP_MASTER_PORT",
    _LOG: "VLLM_CONFIGURE_LOGGING VLLM_LOGGING_CONFIG_PATH VLLM_LOGGING_LEVEL VLLM_LOGGING_PREFIX VLLM_LOGGING_STREAM "
          "VLLM_LOG_MODEL_INSPECTION PROMETHEUS_MULTIPROC_DIR prometheus_multiproc_dir",
    "set models.*.source instead": "VLLM_MODEL_REDIRECT_PATH VLLM_USE_MODELSCOPE",
    "set models.*.load_format instead": "VLLM_TEST_FORCE_LOAD_FORMAT",
    "set server.kv_cache_gib instead": "VLLM_CPU_KVCACHE_SPACE",
    "set lanes.*.mode instead": "VLLM_SERVER_DEV_MODE",
    "export TMPDIR in the shell: each server gets a folder of its own in it": "TMPDIR",
})  # fmt: skip
"""Variables that are ours. All others pass, PYTHONPATH and LD_PRELOAD too: an allocator is tuning, and a configuration
names the very program that is started, so there is nothing to protect from it."""
_ADDRESS: Final = re.compile(r"VLLM_\w+_(?:HOST|IP|PORT)")
DROPPED: Final = tuple(name for name in VARIABLES if name.startswith(("VLLM_", "PROM", "prom")))
"""Variables of the caller that would overrule the spec, lock us out, or hide what the log says."""


def flag_of(word: str) -> str:
    """The flag in a word as vLLM's parser reads it: --a_b.c=d is --a-b. Empty if the word is none."""
    flag = word.partition("=")[0].partition(".")[0]
    if not flag.strip("-") or not flag.startswith("-"):
        return ""
    return "--" + flag[2:].replace("_", "-") if flag.startswith("--") else flag


def taken_as(word: str) -> list[str]:
    """Long flags of ours as which vLLM's parser may take a word: in any spelling, and cut short as far as it allows."""
    flag = flag_of(word)
    if flag.startswith("--"):
        name = flag[2:]
        if name in _LONG or name.startswith(tuple(_FAMILIES)):
            return [flag]
        return sorted({f"--{full}" for full in _LONG if full.startswith(name)})
    name = flag[1:]
    if name in _SHORT:
        return [f"--{_SHORT[name]}"]
    glued = [full for short, full in _SHORT.items() if len(short) == 1 and name.startswith(short)]  # -qfp8
    return sorted({f"--{full}" for full in [*glued, *(_SHORT[s] for s in _SHORT if name and s.startswith(name))]})


def argument(args: Sequence[str], name: str, short: str = "") -> str | None:
    """The value of an argument among `server.args` as vLLM reads it: in any spelling, cut short (a form that is not one
    argument's alone is refused by vLLM), the last one wins; None without it."""
    found = None
    for word, following in pairwise([*args, ""]):
        flag = flag_of(word)
        if flag and (name.startswith(flag) if flag.startswith("--") else flag == short):
            found = word.partition("=")[2] if "=" in word else following
    return found or None


def remedy_of(flag: str) -> str:
    """What to do instead of giving a flag of `taken_as`."""
    name = flag.removeprefix("--")
    family = next((remedy for start, remedy in _FAMILIES.items() if name.startswith(start)), "")
    return family or FLAGS[_LONG[name]]


def remedy_of_variable(name: str) -> str:
    """What to do instead of setting a variable that is ours; empty if it is not."""
    if name.startswith("QUANTBENCH_"):
        return "export it in the shell: it is for quantbench itself"
    return VARIABLES.get(name) or (_LOOPBACK if _ADDRESS.fullmatch(name) else "")
