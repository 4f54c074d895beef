"""Start-up measured on purpose: the same server with an empty compile cache, then with what that left.

What a first start costs is mostly compilation, which the engine keeps in its compile caches. The weight files are not
dropped from the page cache: the model has just been served.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from quantbench.engines.choose import engine_of
from quantbench.engines.protocol import Spec
from quantbench.errors import QuantbenchError
from quantbench.serving import lane, owner

STATES = ("cold", "warm")


def measure(spec: Spec, rounds: int) -> list[dict[str, Any]]:
    """Start the server 2 x `rounds` times, alone on its devices, and stop it again.

    Returns {round, wanted (cold | warm), and `startup` of ready.json}; its compile_cache is what the log says of the
    cache, which is `off` in eager mode. Raises QuantbenchError if a start fails, or has another cache than wanted.
    """
    lane.clear(spec, "start-up is measured")
    cache = Path(owner.server_home(spec["model"])).resolve() / "startup_cache"
    starts = []
    try:
        for number in range(1, rounds + 1):
            shutil.rmtree(cache, ignore_errors=True)
            for wanted in STATES:
                starts.append({"round": number, "wanted": wanted, **_start(spec, cache, wanted)})
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    return starts


def with_cache(spec: Spec, cache: Path) -> Spec:
    """The spec with its compile caches below `cache`."""
    env = dict(spec["settings"].get("env") or {}) | engine_of(spec).compile_caches(cache)
    return {**spec, "settings": {**spec["settings"], "env": env}}


def _start(measured: Spec, cache: Path, wanted: str) -> dict[str, Any]:
    spec = with_cache(measured, cache)
    with lane.lease(spec, why=f"start-up, {wanted}") as lease:
        startup = dict(lease.state["ready"]["startup"])
    lane.stop(spec, "start-up measured")
    state = startup.get("compile_cache")
    if state in STATES and state != wanted:
        raise QuantbenchError(
            f"server of {spec['model']}: its compile cache was {state} in a start that was to find it {wanted}",
            remedy=f"take cache folders ({', '.join(engine_of(spec).compile_caches(cache))}, cache_dir) out of its "
            "arguments and command, or set startup_rounds: 0",
        )
    return startup
