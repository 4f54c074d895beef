"""vLLM as an `Engine`: the functions of this folder under the protocol's names."""

from __future__ import annotations

from quantbench.engines.vllm.client import (
    changed_answer,
    is_sleeping,
    logits,
    metrics_page,
    sleep,
    tokenizer,
    version,
    wake,
)
from quantbench.engines.vllm.command import UNSET, command, compile_caches, hub, inherited, serve_script
from quantbench.engines.vllm.installed import installed, no_gguf_reason, no_sleep_reason, unknown_version
from quantbench.engines.vllm.log import diagnose, incidents, start_facts
from quantbench.engines.vllm.metrics import difference, peak, snapshot
from quantbench.engines.vllm.quantization import check_claim, check_quantization
from quantbench.engines.vllm.step import step

__all__ = [
    "UNSET", "changed_answer", "check_claim", "check_quantization", "command", "compile_caches", "diagnose",
    "difference", "hub", "incidents", "inherited", "installed", "is_sleeping", "logits", "metrics_page",
    "no_gguf_reason", "no_sleep_reason", "peak", "serve_script", "sleep", "snapshot", "start_facts", "step",
    "tokenizer", "unknown_version", "version", "wake",
]  # fmt: skip
