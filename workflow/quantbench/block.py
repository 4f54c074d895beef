"""One block: lease the server, ask it, and keep every fact about the asking.

The block is the unit of replication: one closed-loop run of at least `min_seconds` at one concurrency. What it means is
judged from the kept facts (`guards.judged`), so that a better guard or a new calibration never measures anything again.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from quantbench import progress
from quantbench.client import load, metrics
from quantbench.client.load import BlockResult
from quantbench.client.load_spec import LoadSpec
from quantbench.client.prompt_file import read_prompts
from quantbench.config.configuration import AA_SUFFIX
from quantbench.observe import hardware, server_metrics, vllm_log
from quantbench.observe.telemetry import Sampler
from quantbench.records.request import RequestRecord
from quantbench.serving import lane, owner, processes, registry, vllm_client
from quantbench.serving.watch import Watch

Json = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """What to measure. `spec` is the server's (`Plan.server_spec`), `knobs` the block's (`Plan.block_knobs`)."""

    arm: str
    number: int
    spec: Json
    knobs: Json
    gpu: str
    prompts: Path

    @property
    def seed(self) -> str:
        """All arms get the same prompts in the same order."""
        knobs = self.knobs
        return f"{knobs['workload']}/c{knobs['concurrency']}_t{knobs['max_tokens']}/b{self.number}"

    @property
    def salt(self) -> str:
        """The A/A arm asks the same server, so its prompts begin with other texts: no cache can serve them."""
        return AA_SUFFIX if self.arm.endswith(AA_SUFFIX) else ""


def measure(block: Block, ready: Json) -> tuple[list[RequestRecord], Json]:
    """Run one block on its lane. Returns the requests and the context (docs/architecture.md), not yet judged."""
    prompts = read_prompts(block.prompts)
    with lane.lease(block.spec, why=block.seed) as lease:
        watch = Watch(lease.url, lease.log)
        sampler = Sampler(block.spec["devices"], own_pids=lease.pids)

        def begin() -> None:
            watch.start()
            sampler.start()

        def end() -> None:
            sampler.stop()
            watch.stop()

        _event(block, lease, "block begins")
        try:
            result = load.run_block(_load_spec(block, lease.url, prompts), before=begin, after=end)
        finally:
            sampler.stop()
            watch.close()
        lease.measured_s = result.context["duration_s"]
        _event(block, lease, "block ends")
    return result.records, _context(block, result, sampler.result()) | {
        "server": _server_facts(watch, ready, result.records)
        | {"source_id": (lease.state.get("ready") or {}).get("source_id")},
        "lane": lease.facts(),
    }


def _context(block: Block, result: BlockResult, telemetry: Json) -> Json:
    knobs, records = block.knobs, result.records
    return {
        "protocol": knobs["protocol"],
        "gpu": block.gpu,
        "hardware": None if block.spec["endpoint"] else hardware.identity(block.spec["devices"]),
        "model": block.arm,
        **{key: knobs[key] for key in ("workload", "style", "concurrency", "max_tokens")},
        "block": block.number,
        "min_seconds": knobs["min_seconds"],
        **result.context,
        "metrics": metrics.block_metrics(records, knobs["concurrency"], energy_j=telemetry.get("energy_j")),
        "percentiles": {name: facts.as_dict() for name, facts in metrics.percentile_table(records).items()},
        "failure_reasons": dict(Counter(record.reason for record in records if not record.ok)),
        "telemetry": telemetry,
    }


def say_progress(block: Block, context: Mapping[str, Any]) -> None:
    """One line on stderr: what was measured, how many blocks are kept, how long the rest will take."""
    kept = list(Path("results", block.gpu, "raw").glob("*/*/*/b*.json"))
    begun = psutil.Process(processes.pid_of(owner.current())).create_time()
    ended = sorted(path.stat().st_mtime for path in kept if path.stat().st_mtime >= begun)
    figures = context["metrics"]
    rate = figures["throughput_tok_s"]
    what = (
        f"{block.arm} {block.seed}: {f'{rate:.0f} tok/s' if rate else 'no throughput'}, {figures['failures']} failures"
    )
    print(f"{what} | {progress.line(ended, owner.planned_blocks(), len(kept))}", file=sys.stderr, flush=True)


def _event(block: Block, lease: lane.Lease, event: str) -> None:
    if lease.state:
        registry.add_event(lease.state["home"], event, model=block.arm, lane=block.spec["lane"], cell=block.seed)


def _load_spec(block: Block, url: str, prompts: Sequence[Mapping[str, Any]]) -> LoadSpec:
    knobs = block.knobs
    return LoadSpec(
        url=f"{url}/v1",  # said in full: a gateway's URL has a path of its own before it
        api_key=vllm_client.api_key() if block.spec["endpoint"] else None,
        model=block.spec["served_name"],
        endpoint=knobs["endpoint"],
        concurrency=knobs["concurrency"],
        max_tokens=knobs["max_tokens"],
        prompts=prompts,
        template=knobs["template"],
        seed=block.seed,
        salt=block.salt,
        min_seconds=knobs["min_seconds"],
        min_requests=knobs["min_requests"],
        warmup_requests=knobs["warmup_requests"],
        warmup_max_tokens=knobs["warmup_max_tokens"],
        timeout_s=knobs["timeout_s"],
    )


def _server_facts(watch: Watch, ready: Json, records: Sequence[RequestRecord]) -> Json:
    before, after = (server_metrics.snapshot(page) for page in (watch.page_before, watch.page_after))
    return {
        "spec_hash": ready["spec_hash"],
        "process_start_time": after.get("process_start_time"),
        "fingerprints": sorted({record.fingerprint for record in records if record.fingerprint}),
        "before": before,
        "after": after,
        "delta": server_metrics.difference(before, after),
        "peak": watch.peak(),
        "incidents": vllm_log.incidents(watch.log_window()),
    }
