"""One block: lease the server, ask it, and keep every fact about the asking.

The block is the unit of replication: one closed-loop run of at least `min_seconds` at one concurrency. What it means is
judged from the kept facts (`judged`), so that a better guard or a new calibration never measures anything again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantbench import bottleneck, guards, lane, load, metrics, server_metrics, vllm_log
from quantbench.configuration import AA_SUFFIX
from quantbench.errors import QuantbenchError
from quantbench.files import read_json, write_json
from quantbench.prompts import requests_for
from quantbench.records import RequestRecord
from quantbench.telemetry import Sampler
from quantbench.watch import Watch

Json = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """What to measure. `spec` is the server's, `knobs` the block's (see docs/architecture.md)."""

    arm: str
    number: int
    spec: Json
    knobs: Json
    gpu: str
    gpu_name: str
    prompts: Path

    @property
    def seed(self) -> str:
        """Both models get the same prompts in the same order; the A/A arm others, as it asks the same server."""
        again = AA_SUFFIX if self.arm.endswith(AA_SUFFIX) else ""
        knobs = self.knobs
        return f"{knobs['workload']}/c{knobs['concurrency']}_t{knobs['max_tokens']}/b{self.number}{again}"


def measure(block: Block, ready: Json) -> tuple[list[RequestRecord], Json]:
    """Run one block on its lane. Returns the requests and the context (docs/architecture.md, without judgement)."""
    prompts = read_prompts(block.prompts)
    with lane.lease(block.spec) as lease:
        watch = Watch(lease.url, lease.log)
        sampler = Sampler(block.spec["devices"], own_pids=lease.pids)

        def before() -> None:
            watch.start()
            sampler.start()

        def after() -> None:
            sampler.stop()
            watch.stop()

        try:
            result = load.run_block(_load_spec(block, lease.url, prompts), before=before, after=after)
        finally:
            sampler.stop()
            watch.close()
        own_pids = lease.pids
        how = lease.facts()
    server = _server_facts(watch, ready, result.records)
    telemetry = sampler.result(own_pids)
    context = {
        "protocol": block.knobs["protocol"],
        "gpu": block.gpu,
        "gpu_name": block.gpu_name,
        "model": block.arm,
        **{key: block.knobs[key] for key in ("workload", "style", "concurrency", "max_tokens")},
        "block": block.number,
        **result.context,
        "metrics": {},
        "server": server,
        "telemetry": telemetry,
        "lane": how,
    }
    context["metrics"] = block_figures(result.records, context)
    return list(result.records), context


def block_figures(records: Sequence[RequestRecord], context: Mapping[str, Any]) -> Json:
    """Block metrics of the records, with J per token where the card told its energy."""
    figures = metrics.block_metrics(records, context["concurrency"])
    energy = context["telemetry"].get("energy_j")
    tokens = figures["tokens_out"]
    return {**figures, "j_per_token": energy / tokens if energy and tokens else None}


def judged(context: Mapping[str, Any], ready: Mapping[str, Any], calibration: Mapping[str, Any] | None) -> Json:
    """The context with bottleneck, guards, valid and reasons, from its facts and the client's calibration."""
    facts = dict(context)
    facts["bottleneck"] = bottleneck.judge(facts, calibration or {})
    results = guards.evaluate_block(facts, ready, calibration or {})
    failed = [result.id for result in results if result.status == "fail"]
    facts["guards"] = [{"id": r.id, "status": r.status, "detail": r.detail} for r in results]
    facts["valid"], facts["reasons"] = not failed, failed
    return facts


def read_prompts(path: Path) -> list[Json]:
    """Read a JSONL prompt set; an error names the line."""
    prompts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise QuantbenchError(f"{path}:{number}: not JSON: {error}", remedy="one JSON object per line") from None
        if not isinstance(entry, dict) or not {"prompt", "text", "messages"} & set(entry):
            raise QuantbenchError(f"{path}:{number}: needs one of prompt, text, messages")
        prompts.append({"id": str(number), **entry})
    if not prompts:
        raise QuantbenchError(f"{path} holds no prompt")
    return prompts


def keep_context(path: Path, context: Mapping[str, Any]) -> None:
    """Write a block's context."""
    write_json(path, context)


def read_calibration(path: Path) -> Json:
    """Read one calibration."""
    calibration: Json = read_json(path)
    return calibration


def _load_spec(block: Block, url: str, prompts: Sequence[Mapping[str, Any]]) -> load.LoadSpec:
    knobs = block.knobs
    return load.LoadSpec(
        base_url=url,
        model=block.spec["served_name"],
        endpoint=knobs["endpoint"],
        concurrency=knobs["concurrency"],
        max_tokens=knobs["max_tokens"],
        prompts=requests_for(prompts, template=knobs["template"], seed=block.seed),
        warmup_prompts=requests_for(prompts, template=knobs["template"], seed=block.seed, warmup=True),
        min_seconds=knobs["min_seconds"],
        min_requests=knobs["min_requests"],
        warmup_requests=knobs["warmup_requests"],
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
