"""Which engine serves a spec."""

from __future__ import annotations

from quantbench.engines.protocol import Engine, Spec
from quantbench.engines.vllm import engine as vllm


def engine_of(spec: Spec) -> Engine:
    """The spec's engine: vLLM, as there is no other."""
    return vllm
