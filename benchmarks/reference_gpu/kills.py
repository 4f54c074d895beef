"""Kill servers of a sleep-mode lane on a real GPU and show that the lane recovers; also times the switches.

python benchmarks/reference_gpu/kills.py --configfile benchmarks/reference_gpu/run.yaml --out kills.json
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "workflow"))

from quantbench.config import settings
from quantbench.files import write_json
from quantbench.observe import gpu
from quantbench.serving import lane, owner, processes, registry


def used_mib() -> float | None:
    """Memory in use on the first GPU."""
    return (gpu.snapshot(["0"]) or {}).get("used_mib")


def leased(spec: dict[str, Any]) -> dict[str, Any]:
    """Lease a server once; what the lane did and how long it took."""
    begin = time.monotonic()
    with lane.lease(spec) as lease:
        state = lease.state
    done = time.monotonic() - begin
    return {
        "model": spec["model"],
        "action": lease.action,
        "mode": lease.mode,
        "note": lease.note,
        "switch_s": round(lease.switch_s, 3),
        "seconds": round(done, 3),
        "used_mib": used_mib(),
        "state": state,
    }


def kill(spec: dict[str, Any]) -> None:
    """SIGKILL the API server of a model and wait until its processes are gone."""
    state = next(s for s in registry.servers(spec["devices"]) if s["spec"]["model"] == spec["model"])
    leader = registry.leader(state)
    assert leader
    os.kill(processes.pid_of(leader), signal.SIGKILL)
    end = time.monotonic() + 10
    while registry.members(state) and time.monotonic() < end:
        time.sleep(0.1)
    print(f"killed {spec['model']}; processes left: {registry.members(state)}", flush=True)


def main() -> None:
    """Start two servers, switch ten times, kill the sleeping one, kill the awake one, stop, and compare memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--configfile", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs=2, default=["bf16", "awq"])
    args = parser.parse_args()
    plan = settings.load(Path.cwd(), {}, [args.configfile])
    owner.become_owner(plan.devices(), f"results/{plan.gpu}/kills")
    a, b = (plan.server_spec(name) for name in args.models)
    steps: list[dict[str, Any]] = []
    baseline = used_mib()

    def step(what: str, spec: dict[str, Any]) -> None:
        entry = {"what": what, **leased(spec)}
        entry.pop("state")
        steps.append(entry)
        print(entry, flush=True)

    try:
        step("start", a)
        step("start", b)
        for number in range(10):
            step("switch", (a, b)[number % 2])
        kill(a)
        step("the awake server, after the sleeping one was killed", b)
        kill(b)
        step("the other one, when both are gone", a)
    finally:
        stopped = lane.sweep("end of the kill test")
    time.sleep(2)
    result = {"baseline_mib": baseline, "after_mib": used_mib(), "stopped": stopped, "steps": steps}
    write_json(args.out, result)
    print({key: result[key] for key in ("baseline_mib", "after_mib", "stopped")}, flush=True)


if __name__ == "__main__":
    main()
