"""Two small runs for `quantbench compare`: models with log-values start by start, in memory or as a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import runs
from quantbench.files import write_json
from quantbench.judge.two_runs import RunFacts, compare_runs
from quantbench.records.base import write
from quantbench.records.block import BlockContext, Hardware, ServerFacts
from quantbench.records.cell import Cell
from quantbench.records.layout import Folder
from quantbench.records.server import Quantization, Ready, Settings, Tokenizer, Versions
from quantbench.records.two_runs import TwoRuns
from quantbench.report.say import Speech
from quantbench.report.two_runs import worded

Starts = Sequence[Sequence[float]]
"""ln of a block's value relative to 100, in each start of the server."""
CELL = Cell.of("chat", 8, 128)
DAY = 86400.0
CARD = Hardware(names=("Test GPU",), uuids=("GPU-0",), driver="570.1")
STEADY: Starts = ((0.0, 0.004, -0.003), (0.002, -0.002, 0.001))
"""Two starts that are alike."""


def shifted(starts: Starts, by: float) -> Starts:
    """The same, higher by a log."""
    return [[log + by for log in start] for start in starts]


def blocks(model: str, starts: Starts, cell: Cell = CELL, day: float = 0.0, **changes: Any) -> list[BlockContext]:
    """Blocks whose throughput rises and whose times fall with the log; `day`: when, in days."""
    made: list[BlockContext] = []
    for number, start in enumerate(starts, start=1):
        for log in start:
            n, speed = len(made) + 1, 100 * math.exp(log)
            server = ServerFacts(source_id="d1e5", started_unix=day * DAY + number)
            values = {"throughput_tok_s": speed, "p95_ttft_ms": 9e3 / speed, "p95_e2e_ms": 9e4 / speed}
            facts: dict[str, Any] = {"metrics": values, "hardware": CARD, "server": server, **changes}
            made.append(runs.block(model, cell, n, started=day * DAY + 40 * n, **facts))
    return made


def server(model: str, **changes: Any) -> Ready:
    """A server that tells what guards of a pair ask."""
    settings = Settings(
        max_model_len=4096, dtype="bfloat16", kv_cache_dtype="auto", enforce_eager=False, prefix_caching=False
    )
    told: dict[str, Any] = {
        "source_id": "d1e5",
        "settings": settings,
        "hardware": CARD,
        "versions": Versions(vllm="0.32.0", torch="2.13.0"),
        "tokenizer": Tokenizer(probe_sha256="t", chat_probe_sha256="c"),
    }
    return runs.ready(model, **{**told, **changes})


def facts(
    models: Mapping[str, Starts], day: float = 0.0, folder: str = "results/a", cell: Cell = CELL, **changes: Any
) -> RunFacts:
    """A run of one cell. changes: `ready` of all servers, all else of the blocks."""
    ready = changes.pop("ready", {})
    made = [block for model, starts in models.items() for block in blocks(model, starts, cell, day, **changes)]
    return RunFacts(folder, made, {model: server(model, **ready) for model in models}, "bf16")


def written(below: Path, run: RunFacts) -> Path:
    """The folder of a run's results, as `results.kept_run` reads it."""
    folder = Folder("test-gpu", below)
    for block in run.blocks:
        write(folder.file("block", block.cell, arm=block.arm, block=block.block), block)
    for model, ready in run.ready.items():
        write(folder.file("ready", model=model), ready)
    write_json(folder.file("verdict"), {"baseline": run.baseline})
    return below


def compared() -> dict[str, TwoRuns]:
    """Comparisons for golden pages, by name: they show each verdict, each kind of difference, each remark."""
    noisy: Starts = ((0.0, 0.1, -0.1), (0.12, -0.05, 0.0))
    other: Starts = ((0.003, -0.001, 0.0), (0.001, 0.005, -0.002))
    one, faster = ((0.0, 0.004, -0.003, 0.002),), ((0.2, 0.21, 0.19, 0.205),)
    drifting = ((0.0, 0.02, 0.04), (0.06, 0.08, 0.1))
    other_vllm: dict[str, Any] = {"ready": {"versions": Versions(vllm="0.33.0", torch="2.13.0")}}
    moved: dict[str, Any] = {"hardware": Hardware(names=CARD.names, uuids=("GPU-7",), driver="571.2")}
    old = {"bf16": STEADY, "int8": shifted(STEADY, 0.3), "int4": noisy, "fp8": STEADY}
    new = {"bf16": STEADY, "int8": shifted(other, 0.1), "int4": shifted(noisy, 0.02), "fp8": shifted(other, 0.1)}
    gone = facts(old), facts({"bf16": STEADY}, 1, "results/b")
    single = [
        facts({"bf16": up, "int8": down, "awq": one, "fp8": one}, day, f"results/{day:g}")
        for day, (up, down) in enumerate(((one, faster), (faster, one)))
    ]
    single[1].ready["awq"] = server("awq", versions=Versions(vllm="0.33.0"))
    for run, verified in zip(single, (True, False), strict=True):
        run.ready["fp8"] = server("fp8", quantization=Quantization(claimed="fp8", verified=verified))
    short = facts({"bf16": one, "fp8": ((0.0, 0.1),)}, 1, "results/b")
    pairs: dict[str, tuple[RunFacts, RunFacts, dict[str, Any]]] = {
        "compare_starts": (
            facts(old), facts(new, 1, "results/b", **other_vllm, **moved), {"varies": ["vllm", "prompts"]}
        ),
        "compare_same": (facts({"bf16": STEADY}), facts({"bf16": STEADY, "int8": STEADY}, 1, "results/b"), {}),
        "compare_lacking": (*gone, {}),
        "compare_one_start": (*single, {}),
        "compare_run_spread": (
            facts({"bf16": one, "fp8": one}), short, {"run_spread": 0.02, "metrics": ["throughput_tok_s"]}
        ),
        "compare_worse_alone": (
            facts({"bf16": STEADY, "int8": STEADY, "int4": STEADY}),
            facts({"bf16": STEADY, "int8": ((-0.025, -0.024, -0.026), (-0.035, -0.034, -0.036)), "int4": STEADY}, 1),
            {},
        ),
        "compare_drift": (facts({"bf16": drifting}), facts({"bf16": STEADY}, 1, "results/b"), {}),
    }  # fmt: skip
    return {name: worded(Speech(), compare_runs(a, b, **more)) for name, (a, b, more) in pairs.items()}
