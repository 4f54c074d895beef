"""Start-up measured on purpose: the same server with an empty compile cache, then with what that left.

What a first start costs is mostly vLLM's compilation, which it keeps in `VLLM_CACHE_ROOT`; Triton's and Inductor's
caches lie beside it. The weight files are not dropped from the page cache: the model has just been served.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantbench.errors import QuantbenchError
from quantbench.serving import lane, owner

Spec = Mapping[str, Any]
STATES = ("cold", "warm")
_CACHES = {"VLLM_CACHE_ROOT": "vllm", "TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}


def measure(spec: Spec, rounds: int) -> list[dict[str, Any]]:
    """Start the server 2 x `rounds` times, alone on its devices, and stop it again.

    Returns {round, wanted (cold | warm), and `startup` of ready.json}; its compile_cache is what vLLM's log says of the
    cache, which is `off` in eager mode. Raises QuantbenchError if a start fails, or finds another cache than wanted.
    """
    lane.clear(spec, "start-up is measured")
    cache = Path(owner.server_home(spec["model"])).resolve() / "startup_cache"
    starts = []
    try:
        for number in range(1, rounds + 1):
            shutil.rmtree(cache, ignore_errors=True)
            for wanted in STATES:
                starts.append({"round": number, "wanted": wanted, **_start(with_cache(spec, cache), wanted)})
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    return starts


def with_cache(spec: Spec, cache: Path) -> Spec:
    """The spec with its compile caches below `cache`."""
    env = dict(spec["settings"].get("env") or {}) | {key: str(cache / name) for key, name in _CACHES.items()}
    return {**spec, "settings": {**spec["settings"], "env": env}}


def _start(spec: Spec, wanted: str) -> dict[str, Any]:
    with lane.lease(spec, why=f"start-up, {wanted}") as lease:
        startup = dict(lease.state["ready"]["startup"])
    lane.stop(spec, "start-up measured")
    found = startup.get("compile_cache")
    if found in STATES and found != wanted:
        raise QuantbenchError(
            f"server of {spec['model']}: its compile cache was {found} in a start that was to find it {wanted}",
            remedy="take cache folders (VLLM_CACHE_ROOT, cache_dir) out of its args, or set startup_rounds: 0",
        )
    return startup
