"""Which engine serves a spec."""

from __future__ import annotations

from quantbench.engines.protocol import Engine
from quantbench.engines.vllm import engine as vllm
from quantbench.records.server import ServerSpec


def engine_of(spec: ServerSpec) -> Engine:
    """The spec's engine: vLLM, as there is no other."""
    return vllm
