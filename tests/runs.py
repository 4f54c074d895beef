"""Typed pieces of a run with defaults, for tests of what is judged and said: name what the test is about, no more.

The default run: bf16 against awq, chat (c=1, 8, 16) and batch (c=16, 32), one comparison ("better", 1.2) per metric of
each deciding cell, a sound A/A control, no quality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from quantbench.records.block import BlockContext, ClientFacts, LaneFacts, ServerFacts, Telemetry
from quantbench.records.cell import Cell
from quantbench.records.comparison import Comparison, Control, ControlMetric, Precision, Primary, Verdict
from quantbench.records.measurement import (
    Blocks,
    CellUse,
    ClientUse,
    LaneUse,
    Measurement,
    Order,
    RefusedBlock,
    ServerUse,
    Share,
)
from quantbench.records.plan import ReportPlan, WorkloadPlan
from quantbench.records.quality import Floor, Item, Lengths, Passed, QualityDetails, Side
from quantbench.records.run import Run
from quantbench.records.server import Completion, Memory, Quantization, Ready, Settings, Startup, Tokenizer, Versions
from quantbench.records.tables import CapacityRow, MemoryRow

START = datetime(2026, 11, 20, 9, 0, tzinfo=UTC).timestamp()
CHAT, BATCH = Cell.of("chat", 16, 128), Cell.of("batch_summarize", 32, 256)
"""The deciding cells."""
LABELS = {"bf16": "BF16", "awq": "AWQ 4-bit", "fp8": "FP8 (online)"}
METRICS = ("throughput_tok_s", "p50_ttft_ms", "p95_ttft_ms", "p50_e2e_ms", "p95_e2e_ms")


def but(record: Any, **changes: Any) -> Any:
    """The same record with other values."""
    return msgspec.structs.replace(record, **changes)


def plan(**changes: Any) -> ReportPlan:
    """Chat and batch, awq against bf16; the primary comparison is tokens/sec of chat."""
    base = ReportPlan(
        gpu="test-gpu",
        gpu_name="Test GPU 24GB",
        baseline="bf16",
        variants=("awq",),
        labels=LABELS,
        workloads={
            "chat": WorkloadPlan(style="interactive", cells=((1, 128), (8, 128), (16, 128))),
            "batch_summarize": WorkloadPlan(style="batch", cells=((16, 256), (32, 256))),
        },
        primary=primary(),
        margin=0.02,
    )
    return but(base, **changes)  # type: ignore[no-any-return]


def primary(cell: Cell = CHAT, metric: str = "throughput_tok_s") -> Primary:
    """The comparison that was declared to decide."""
    return Primary(**cell.columns, metric=metric)


def comparison(cell: Cell = CHAT, metric: str = "throughput_tok_s", **changes: Any) -> Comparison:
    """A gain of 20 % in tokens/sec (±2 %), or of another metric; ci_low and ci_high follow `ratio`."""
    ratio = changes.get("ratio", 1.2)
    interval = {} if ratio is None else {"ci_low": ratio * 0.98, "ci_high": ratio * 1.02}
    defaults: dict[str, Any] = {
        "gpu_name": "Test GPU 24GB", "baseline": "bf16", "variant": "awq", "metric": metric, "baseline_value": 100.0,
        "variant_value": None if ratio is None else 100.0 * ratio, "ratio": ratio, "ci_low": None, "ci_high": None,
        "n_pairs": 6, "p_value": 0.001, "p_holm": 0.002, "margin": 0.02, "code": "better",
        "primary": cell == CHAT and metric == "throughput_tok_s", "interleaved": True, "valid": True,
    }  # fmt: skip
    return Comparison(**{**cell.columns, **defaults, **interval, **changes})


def control(**changes: Any) -> Control:
    """An A/A control in the primary cell that found no difference."""
    entry = ControlMetric(
        ratio=1.0, ci_low=0.99, ci_high=1.01, n_pairs=6, p_value=0.9, p_holm=None, half_width=0.01, different=False,
        code="equivalent",
    )  # fmt: skip
    given = {"present": True, "cell": CHAT.key, "interleaved": True, "metrics": {"throughput_tok_s": entry}, **changes}
    return Control(**given)


def verdict(rows: Sequence[Comparison] | None = None, **changes: Any) -> Verdict:
    """A trusted verdict; a gain in tokens/sec and equivalent times in both deciding cells, unless `rows` are given."""
    if rows is None:
        gains = [comparison(cell) for cell in (CHAT, BATCH)]
        times = [comparison(cell, m, ratio=1.0, code="equivalent") for cell in (CHAT, BATCH) for m in METRICS[1:]]
        rows = [*gains, *times]
    base = Verdict(
        baseline="bf16", primary=primary(), margin=0.02, confidence=0.95, aa=control(), trusted=True, drift=(),
        rows=tuple(rows), precision=Precision(target=0.02, most_blocks=40),
    )  # fmt: skip
    return but(base, **changes)  # type: ignore[no-any-return]


def block(
    model: str = "bf16", cell: Cell = CHAT, number: int = 1, *, started: float = 0.0, **changes: Any
) -> BlockContext:
    """A valid block of 20 s; `started`: seconds after START."""
    at = START + started
    base = BlockContext(
        gpu="test-gpu", model=model, style="interactive" if cell.workload == "chat" else "batch", **cell.columns,
        block=number, min_seconds=20.0, started_at=datetime.fromtimestamp(at, UTC).isoformat(), started_unix=at,
        duration_s=20.0, client=ClientFacts(), metrics={"throughput_tok_s": 100.0, "tokens_out": 2000},
        telemetry=Telemetry(), server=ServerFacts(), lane=LaneFacts(lane="gpu0", mode="sleep", action="woken"),
    )  # fmt: skip
    return but(base, **changes)  # type: ignore[no-any-return]


def ready(model: str = "bf16", **changes: Any) -> Ready:
    """A server record that tells little; memory, startup, quantization and others by keyword."""
    base = Ready(
        model=model, spec_hash="x", source=f"made/{model}", served_name=model, url="http://127.0.0.1:8000", lane="gpu0",
        devices=("0",), versions=Versions(vllm="0.32.0"), mode="sleep", started_at=None, log="server.log",
        quantization=Quantization(claimed="none"), memory=Memory(), vram=None, startup=Startup(), settings=Settings(),
        test_completion=Completion(), tokenizer=Tokenizer(), system_fingerprint=None,
    )  # fmt: skip
    return but(base, **changes)  # type: ignore[no-any-return]


def memory(model: str = "awq", **changes: Any) -> MemoryRow:
    """A row of memory.csv."""
    return MemoryRow(**{"model": model, "label": LABELS.get(model, model), **changes})


def capacity(
    model: str = "bf16", cell: Cell = CHAT, values: Mapping[str, Any] | None = None, **changes: Any
) -> CapacityRow:
    """A tuple's row."""
    known = {"throughput_tok_s": 100.0, "tokens_in": 6000, "tokens_out": 2000, **(values or {})}
    base = CapacityRow(gpu_name="Test GPU 24GB", model=model, **cell.columns, values=known, blocks=6, valid=True)
    return but(base, **changes)  # type: ignore[no-any-return]


def cell_use(model: str = "awq", cell: Cell = CHAT, **changes: Any) -> CellUse:
    """How one arm's cell was measured: the engine limited it."""
    defaults: dict[str, Any] = {
        "blocks": 6, "valid": 6, "bottleneck": "engine", "bottleneck_blocks": 6, "bottleneck_sentence": None,
        "preemptions": 0, "kv_usage_peak": 0.2,
    }  # fmt: skip
    return CellUse(**{"model": model, **cell.columns, **defaults, **changes})


def measurement(invalid: Sequence[RefusedBlock] = (), **changes: Any) -> Measurement:
    """A run of one day, 60 blocks, nothing missing."""
    blocks = Blocks(
        total=60, valid=60 - len(invalid), invalid=tuple(invalid), cells=10, fewest_per_cell=6, most_per_cell=6
    )
    base = Measurement(
        gpu="test-gpu", first_block_at="2026-11-20T09:00:00+00:00", last_block_at="2026-11-20T10:00:00+00:00",
        measured_s=1200.0, versions={}, blocks=blocks, guards=(), share=Share(measured_s=None, held_s=None, share=None),
        order=Order(cells=5, example="A B B A", letters={"A": "bf16", "B": "awq"}), wall=(), sessions={},
        lane=LaneUse(modes={"sleep": 60}, switches=0, switch_s_median=None, switch_s_max=None), calibration=(),
        client=ClientUse(cpu_share_max=None, loop_lag_p99_ms_max=None, concurrency_held_min=None), cells=(),
        calibration_age_s=None, telemetry_missing={}, telemetry_gaps={}, gpu_name="Test GPU 24GB",
        server=ServerUse(
            prefix_cache_hits=None, preemptions=None, generation_tokens=None, client_tokens=0, incidents={}
        ),
    )  # fmt: skip
    return but(base, **changes)  # type: ignore[no-any-return]


def quality(variant: str = "awq", n: int = 200, lost: int = 0, **changes: Any) -> QualityDetails:
    """A pair of n prompts that the baseline passes all, of which the variant loses the first."""
    counts = Passed(baseline=n, variant=n - lost)
    base = QualityDetails(
        baseline="bf16", variant=variant, prompts=n, passed=counts, worse=tuple(f"p{i}" for i in range(lost)),
        better=(), classes=(), identical=n - lost, identical_share=(n - lost) / n, median_first_divergence_token=None,
        details=tuple(_item(i, passed=i >= lost) for i in range(n)),
        length=Lengths(
            baseline_tokens=600, variant_tokens=600, mean_ratio=1.0, cut_at_max_tokens=Passed(baseline=0, variant=0)
        ),
        floor=Floor(measured=True, answers=n, identical=n, identical_share=1.0),
    )  # fmt: skip
    return but(base, **changes)  # type: ignore[no-any-return]


def _item(number: int, *, passed: bool) -> Item:
    sides = [Side(output=str(ok), passed=ok, tokens=3, finish_reason="stop", checks=()) for ok in (True, passed)]
    return Item(
        id=f"p{number}", kind="fact", prompt="q", change="both pass" if passed else "worse", identical=passed,
        same_input=True, first_divergence_token=None if passed else 0, baseline=sides[0], variant=sides[1],
    )  # fmt: skip


def run(**parts: Any) -> Run:
    """A whole run; its parts by keyword."""
    defaults: dict[str, Any] = {
        "plan": plan(),
        "verdict": verdict(),
        "capacity": [capacity(model, cell) for model in ("bf16", "awq") for cell in (CHAT, BATCH)],
        "memory": [memory("bf16"), memory("awq", weights_reduction_pct=60.0)],
        "ready": {"bf16": ready("bf16"), "awq": ready("awq")},
        "measurement": measurement(cells=(cell_use("awq", CHAT), cell_use("awq", BATCH))),
        "command": ("snakemake", "--cores", "1"),
    }
    return Run(**{**defaults, **parts})
