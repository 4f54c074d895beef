"""Start-up measured on purpose: the same server with an empty compile cache, then with what that left.

What a first start costs is mostly compilation, which the engine keeps in its compile caches. The weight files are not
dropped from the page cache: the model has just been served.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, Literal

from msgspec.structs import asdict, replace

from quantbench.engines.choose import engine_of
from quantbench.errors import QuantbenchError
from quantbench.records.server import MeasuredStart, MeasuredStarts, ServerSpec, Startup
from quantbench.serving import lane, owner

STATES: Final[tuple[Literal["cold", "warm"], ...]] = ("cold", "warm")


def measure(spec: ServerSpec, rounds: int) -> MeasuredStarts:
    """Start the server 2 x `rounds` times, alone on its devices, and stop it again.

    The compile_cache of a start is what the log says of the cache, which is `off` in eager mode. Raises QuantbenchError
    if a start fails, or has another cache than wanted.
    """
    lane.clear(spec, "start-up is measured")
    cache = Path(owner.server_home(spec.model)).resolve() / "startup_cache"
    starts = []
    try:
        for number in range(1, rounds + 1):
            shutil.rmtree(cache, ignore_errors=True)
            for wanted in STATES:
                starts.append(MeasuredStart(**asdict(_start(spec, cache, wanted)), round=number, wanted=wanted))
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    return MeasuredStarts(model=spec.model, starts=tuple(starts))


def _start(measured: ServerSpec, cache: Path, wanted: str) -> Startup:
    caches, settings = engine_of(measured).compile_caches(cache), measured.settings
    spec = replace(measured, settings=replace(settings, env=settings.env | caches))
    with lane.lease(spec, why=f"start-up, {wanted}") as lease:
        assert lease.ready is not None
        startup = lease.ready.startup
    lane.stop(spec, "start-up measured")
    state = startup.compile_cache
    if state in STATES and state != wanted:
        raise QuantbenchError(
            f"server of {spec.model}: its compile cache was {state} in a start that was to find it {wanted}",
            remedy=f"take cache folders ({', '.join(caches)}, cache_dir) out of its "
            "arguments and command, or set startup_rounds: 0",
        )
    return startup
