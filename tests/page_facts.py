"""Facts and conditions that no scenario of the golden pages shows, each as a small run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, get_args

import natural_answers
from made_outcomes import counted, likelihood, looping, suite
from msgspec.structs import asdict
from quantbench.judge.cost import cost_report
from quantbench.judge.decision import decide
from quantbench.judge.impact import impact_rows
from quantbench.judge.predictions import QUESTIONS
from quantbench.quality import correct, natural, score
from quantbench.records.block import Calibration
from quantbench.records.cell import Cell
from quantbench.records.comparison import (
    Comparison,
    InvalidBlock,
    IsoComparison,
    Precision,
    PrecisionEntry,
    StartEffect,
)
from quantbench.records.cost import Price
from quantbench.records.finding import finding
from quantbench.records.measurement import (
    Blocks,
    BoundBy,
    Check,
    ClientUse,
    Further,
    Gap,
    GuardCount,
    HostUse,
    LaneUse,
    Offered,
    Order,
    RefusedBlock,
    Scatter,
    ScatteredCell,
    ServerUse,
    SessionUse,
    Share,
    Wall,
)
from quantbench.records.metric import PER_GPU
from quantbench.records.plan import ArmPlan, Factor, IsoPlan
from quantbench.records.quality import Answer, CheckResult, ClassCount, Floor, Item, Lengths, Passed, Thinking
from quantbench.records.run import Run
from quantbench.records.server import Completion, Memory, Quantization, Settings, Startup, Unfit, Unpacked, Versions
from quantbench.records.suite import Outcome, Preference
from quantbench.records.tables import StartupRow
from quantbench.report import cost, decision, ending, factors, impact, iso_memory, method, practices, render, speed
from quantbench.report import memory as memory_page
from quantbench.report import quality as quality_page
from quantbench.report.document import Page, Part, Section, bullets, text
from quantbench.report.say import Speech
from quantbench.report.verdict import worded
from runs import (
    BATCH,
    CHAT,
    but,
    capacity,
    cell_use,
    comparison,
    control,
    measurement,
    memory,
    plan,
    quality,
    ready,
    run,
    verdict,
)

C1, C8, LONG = Cell.of("chat", 1, 128), Cell.of("chat", 8, 128), Cell.of("chat", 16, 256)
OPEN: dict[str, Any] = {"ratio": 1.1, "ci_low": 0.8, "ci_high": 1.5, "code": "undecided"}
LOSS: dict[str, Any] = {"ratio": 0.8, "code": "worse"}
SAME: dict[str, Any] = {"ratio": 1.0, "code": "equivalent"}
PRICE = Price(hourly_price=0.28, source="a price list", date="2026-11-09", utilisation=0.5)
FLOOR = Floor(measured=True, answers=60, identical=60, identical_share=1.0)
JUDGED = Preference(
    judge="Referee-70B",
    pairs=30,
    baseline_wins=5,
    variant_wins=3,
    ties=22,
    inconsistent=4,
    false_preference=0.1,
    failed=2,
)
BAD_ENDS = ({"hard": ("no_repetition",)}, {"hard": ("not_empty",)}, {"cut": True, "in_thought": True})


def compared(*rows: Comparison, **parts: Any) -> Run:
    """A run with these comparisons, and a capacity row for each of their cells."""
    variants = tuple(dict.fromkeys(row.variant for row in rows))
    known = [capacity(model, cell) for cell in dict.fromkeys(row.cell for row in rows) for model in ("bf16", *variants)]
    return run(**{"plan": plan(variants=variants), "capacity": known, "verdict": verdict(rows), **parts})


ISO = IsoPlan(
    length=2048, max_tokens=128, concurrency={"bf16": 24, "awq": 61}, limits=dict.fromkeys(("bf16", "awq"), 61)
)


def same_memory(**changes: Any) -> Run:
    """BF16 with 24 requests in flight, AWQ with the 61 that may run of the 70 that fit."""
    seen = {"length": 2048, "longest_request": 900, "baseline_concurrency": 24, "baseline_fits": 24, "variant_fits": 70}
    row = IsoComparison(**asdict(comparison(Cell.of("chat", 61, 128), **changes)), **seen)
    held = [memory("bf16", kv_cache_tokens=24 * 2048), memory("awq", kv_cache_tokens=70 * 2048)]
    return run(plan=plan(iso_memory={"chat": ISO}), verdict=verdict(iso_memory=(row,)), memory=held)


def measured(**facts: Any) -> Run:
    return run(measurement=measurement(**facts))


def priced(*rows: Comparison, price: Price = PRICE, trusted: bool = True, **parts: Any) -> Run:
    base = run(**parts)
    rows = rows or (comparison(CHAT), comparison(BATCH))
    return replace(base, verdict=verdict(rows, trusted=trusted), cost=cost_report(base.capacity, rows, price))


def open_cost(low: float, high: float) -> Run:
    likely = "gain" if low > 1 else "loss" if high < 1 else None
    return priced(comparison(CHAT, code="undecided", ratio=(low + high) / 2, ci_low=low, ci_high=high, likely=likely))


def of_starts(*starts: int, reasons: tuple[str, ...] = (), differs: bool = False) -> Run:
    """A run with one comparison for each number of starts, the last of them with a component of starts."""
    rows = [comparison(cell, reasons=reasons) for cell in (CHAT, C8)[: len(starts)]]
    effects = [
        StartEffect(**row.cell.columns, variant="awq", metric=row.metric, starts=n, n_pairs=6)
        for row, n in zip(rows, starts, strict=True)
    ]
    last = but(effects[-1], difference=0.021, between=0.0001, within=0.00001, differs=differs)
    return compared(*rows, verdict=verdict(rows, starts=(*effects[:-1], last)))


def served(**awq: Any) -> Run:
    return run(ready={"bf16": ready("bf16"), "awq": ready("awq", **awq)})


def started(own: Startup, base: Startup) -> Run:
    return run(ready={"bf16": ready("bf16", startup=base), "awq": ready("awq", startup=own)})


def nvml(base: float, own: float) -> Run:
    deltas = {"bf16": base, "awq": own}
    return run(memory=[memory(m, vram_source="nvml", vram_delta_mib=delta) for m, delta in deltas.items()])


def rounds(*states: str) -> Run:
    rows = [
        StartupRow(model="awq", label="awq", source="startup_rounds", compile_cache=state, starts=2, total_s=total)
        for state, total in zip(states, (80.0, 60.0), strict=False)
    ]
    return run(startup=rows)


def answered(**changes: Any) -> Run:
    return run(quality={"awq": but(quality(n=2), **changes)})


def item(number: int, *, lost: bool = False, note: str | None = None) -> Item:
    base, own = (
        Answer(id=f"p{number}", kind="fact", prompt="Say it", output=output, tokens=1, token_ids=(len(output),))
        for output in ("yes", "no" if lost else "yes")
    )
    check = CheckResult(type="exact_number", ok=True, detail="last number 29, wanted 21")
    return score.compare("fact", (base, [check]), (own, [but(check, ok=not lost)]), note)


def not_run() -> Item:
    answer = Answer(id="p9", kind="code", prompt="Write it", output="def f(): 1", tokens=1, token_ids=(1,))
    check = CheckResult(type="python", ok=None, detail="not run")
    return score.compare("code", (answer, [check]), (answer, [check]))


def scored(*items: Item, floor: Floor = FLOOR, **more: Any) -> Run:
    return run(quality={"awq": score.score(list(items), floor, baseline="bf16", variant="awq", **more)})


def suites(outcomes: Sequence[Outcome], **more: Any) -> Run:
    return run(suites={"awq": [suite(outcomes, variant="awq", **more)]})


def lengths(ratio: float, cut: int = 0) -> Run:
    counts = Passed(baseline=0, variant=cut)
    return answered(length=Lengths(baseline_tokens=1, variant_tokens=1, mean_ratio=ratio, cut_at_max_tokens=counts))


NOBODY, SOME = Passed(baseline=0, variant=0), Passed(baseline=60, variant=58)
THINKING: dict[str, tuple[bool | None, Passed, Passed]] = {
    "on": (True, SOME, Passed(baseline=1, variant=4)),
    "on, and not seen": (True, NOBODY, NOBODY),
    "off": (False, NOBODY, NOBODY),
    "off, and seen": (False, SOME, NOBODY),
    "not declared, and seen": (None, SOME, NOBODY),
    "not declared, and not seen": (None, NOBODY, NOBODY),
}
"""What is declared, answers with a thought, answers cut inside of it."""


def solved(*items: Outcome, rows: Sequence[Comparison] = (), price: Price = PRICE, trusted: bool = True) -> Run:
    """A run with a suite of these items."""
    found = priced(*rows, price=price, trusted=trusted)
    pair = natural.natural(items, baseline="bf16", variant="awq", suites=("tasks",))
    assert found.cost
    return replace(found, cost=correct.with_answers(found.cost, found.verdict.rows, {"awq": (pair, items)}))


def precision(blocks_more: int | None, half_width: float | None = 0.1) -> PrecisionEntry:
    where = {"cell": CHAT.key, "variant": "awq", "metric": "p50_ttft_ms"}
    return PrecisionEntry(**where, half_width=half_width, blocks_more=blocks_more)


def predicted(**answers: Any) -> Run:
    return run(plan=plan(predictions=answers), quality={"awq": quality()})


def judged(found: Run) -> Run:
    """A run with what is judged of it: chat against batch, and the decision, where it has none."""
    if found.decision:
        return found
    found = replace(found, impact=[impact.worded(found, Speech.of(found), row) for row in impact_rows(found)])
    return replace(found, decision=decide(found))


def unlike(chat: float, batch: float, label: str = "", *limits: str, **ends: Any) -> Run:
    """Chat and batch that gain unlike much, by ratio; limits: what limited chat and batch."""
    ratios = {CHAT: chat, BATCH: batch}
    rows = [comparison(c, ratio=r, code="better" if r > 1 else "worse", **ends) for c, r in ratios.items()]
    uses = [cell_use("awq", c, bottleneck=part, preemptions=3) for c, part in zip(ratios, limits, strict=False)]
    seen = ready("awq", quantization=but(SEEN, label=label))
    return compared(*rows, measurement=measurement(cells=tuple(uses)), ready={"awq": seen})


def bounded(part: BoundBy | None, **changes: Any) -> Run:
    """awq is not faster in the cell that decides, though its weights would allow it; what bounds it there."""
    figures = {"bandwidth_share": 0.3, "compute_share": 0.05, "step_ms": 3.0}
    base, own = (
        cell_use(model, CHAT, bound=part, floor_ms=ms, **figures) for model, ms in (("bf16", 1.2), ("awq", 0.9))
    )
    found = compared(comparison(CHAT, **{"ratio": 0.93, "code": "worse", **changes}))
    seen = found.ready | {"awq": ready("awq", quantization=SEEN)}
    return replace(found, measurement=measurement(cells=(base, own)), ready=seen)


def asked(found: Run) -> Run:
    """The same with a prediction for every question."""
    every = dict.fromkeys((question.id for question in QUESTIONS), "better")
    return replace(found, plan=but(found.plan, predictions=every))


def doubted(*findings: Any) -> Run:
    """A run whose doubts are given, not judged."""
    found = judged(run())
    assert found.decision
    return replace(found, decision=but(found.decision, doubts=findings))


SEEN = Quantization(claimed="awq", method="awq_marlin", label="W4A16", kernel="Marlin", bits_per_weight=4.4)
SAME_KV = Settings(kv_cache_dtype="auto", speculative=False, max_model_len=4096)
OTHER = Settings(kv_cache_dtype="fp8", speculative=True, max_model_len=8192)
GGUF = Unpacked(
    file="tiny.Q4_1.gguf", file_sha256="0" * 64, type="Q4_1", bits_per_weight=5.0, licence="apache-2.0",
    package="tiny-model", version="0.1",
)  # fmt: skip
TORCH = Versions(vllm="0.33.0", torch="2.14.0")


def declared(*factors: Factor, own: Versions | None = None, settings: Settings | None = None, base: Settings = SAME_KV,
             accepted: int | None = 620) -> Run:  # fmt: skip
    """awq, which is declared to differ in all these, with what it and the baseline say."""
    counted = {"server_spec_decode_draft_tokens": 1000, "server_spec_decode_accepted_tokens": accepted}
    return run(
        plan=plan(arms={"bf16": ArmPlan(gpus=2, differs_in=()), "awq": ArmPlan(gpus=1, differs_in=factors)}),
        capacity=[capacity(model, CHAT, counted) for model in ("bf16", "awq")],
        ready={
            "bf16": ready("bf16", versions=Versions(vllm="0.32.0", torch="2.13.0"), settings=base),
            "awq": ready("awq", versions=own or TORCH, settings=settings or OTHER, quantization=SEEN),
        },
    )


NO_P95 = {"ratio": None, "code": "no_test", "reasons": ("P95_NEEDS_N72",)}
REFUSED = tuple(InvalidBlock(model="awq", block=n, guards=("failed_requests",)) for n in (2, 1))
UNTRUSTED = control(
    metrics={"throughput_tok_s": but(control().metrics["throughput_tok_s"], different=True, ratio=1.1, code="better")}
)
STARTS = Startup(total_s=100.0, weights_s=1.0, compile_s=30.0, engine_init_s=40.0)  # compiling lies within
LIMITED = [cell_use(arm, CHAT, bottleneck="client", bottleneck_sentence="It is slow.") for arm in ("awq", "bf16__aa")]
GUARDS = (
    GuardCount(id="failed_requests", ok=9, fail=1, warn=0, unknown=0, details=("1 of 80 failed",)),
    GuardCount(id="power_cap", ok=0, fail=0, warn=0, unknown=10),
)
CHECKS = [("versions", "awq", "fail", "0.32 against 0.33."), ("memory", "run", "warn", "lost"), ("x", "run", "ok", "")]
BLOCK = RefusedBlock(model="awq", **CHAT.columns, block=1, reasons=("thermal_throttling",), details=("too hot",))
SCATTERED = tuple(ScatteredCell(model=model, **CHAT.columns, blocks=12, sd=0.131) for model in ("bf16", "awq"))
FACTS = ("foreign_cpu_cores", "steal_share")
WALL = Wall(lane="gpu0", measured_s=10.0, wall_s=20.0, share=0.5, longest_pause_s=None)
SESSION = dict.fromkeys(("memory_before_mib", "memory_after_stop_mib", "measured_s", "held_s", "mode"))
CLASSES = but(quality(), classes=(ClassCount(kind="summary", prompts=2, baseline=2, variant=1),))

CASES: dict[str, dict[str, Run]] = {
    "capacity": {
        "one difference stands out": compared(
            comparison(C1, ratio=1.45, ci_low=1.44, ci_high=1.46), comparison(C8, ratio=1.4, ci_low=1.39, ci_high=1.41)
        ),
        "a tail is worse in the cell of a gain": compared(comparison(CHAT), comparison(CHAT, "p95_e2e_ms", **LOSS)),
        "a tail is worse in another cell": compared(comparison(CHAT), comparison(C1, "p95_e2e_ms", **LOSS)),
        "a gain here and a loss there": compared(comparison(C1, **LOSS), comparison(C8)),
        "the first token comes late": compared(comparison(CHAT), comparison(CHAT, "p95_ttft_ms", **LOSS)),
        "only a median is known of the times": compared(
            comparison(CHAT), comparison(CHAT, "p50_e2e_ms", ratio=0.8, code="described")
        ),
        "nothing changed": compared(*(comparison(CHAT, m, **SAME) for m in ("throughput_tok_s", "p95_e2e_ms"))),
        "likely better": compared(comparison(CHAT, **OPEN, likely="gain")),
        "likely worse, not compared": compared(
            comparison(C1, **OPEN, likely="loss"), comparison(C8, ratio=None, code="invalid")
        ),
        "no test, and no p95": compared(
            comparison(CHAT, code="no_test", ci_low=None, ci_high=None), comparison(CHAT, "p95_e2e_ms", **NO_P95)
        ),
        "more blocks would decide, or not": compared(
            comparison(C1, **OPEN, blocks_to_decide=7), comparison(C8, **OPEN)
        ),
        "blocks were added for precision": compared(comparison(CHAT, first=4)),
        "blocks refused, not interleaved": compared(comparison(C1, invalid_blocks=REFUSED, interleaved=False)),
        "on other lanes, not interleaved": compared(comparison(C1, interleaved=False, same_lane=False)),
        "a guard refuses the comparison": compared(
            comparison(CHAT, ratio=None, code="invalid", valid=False, blockers=("versions",), baseline_value=None)
        ),
        "several lengths of answers": compared(comparison(CHAT), comparison(LONG)),
        "variants share what is said": compared(
            *(comparison(c, variant=v, **OPEN) for c in (C1, C8) for v in ("awq", "fp8"))
        ),
        "other parts limit": run(
            measurement=measurement(cells=(*LIMITED, cell_use("bf16", CHAT, bottleneck="unknown")))
        ),
        **{f"bound by {part}": bounded(part) for part in get_args(BoundBy)},
        "bound by what is not known": bounded(None),
        "a cell without a valid block": compared(
            comparison(CHAT),
            capacity=[capacity("bf16", CHAT, {"throughput_tok_s": None}, valid=False, blocks_invalid=1)],
        ),
    },
    "decision": {
        "bound by the host, not faster": bounded("host"),
        "bound by the host, but faster": bounded("host", ratio=1.2, code="better"),
        "more tokens, but a worse latency": compared(
            comparison(CHAT), comparison(CHAT, "p95_ttft_ms", ratio=3.34, code="worse")
        ),
        "no interval": compared(comparison(ci_low=None, ci_high=None, code="no_test")),
        "speed is open, answers are lost": compared(comparison(**OPEN), quality={"awq": quality(lost=80)}),
        "a use was not compared": compared(comparison(C1)),
        "nothing is tested, and blocks were refused": compared(
            comparison(code="no_test", ci_low=None, ci_high=None, n_pairs=2), measurement=measurement((BLOCK,))
        ),
        "more blocks would decide": replace(
            compared(comparison(**OPEN)),
            verdict=verdict(
                [comparison(**OPEN)], precision=Precision(target=0.02, most_blocks=40, extra_blocks={CHAT.key: 4})
            ),
            command=("snakemake", "--cores", "1"),
        ),
        "prompts that were lost": run(quality={"awq": quality(n=60, lost=2)}),
        "no answer": run(quality={"awq": but(quality(n=1), details=())}),
        "answers that got better": run(suites={"awq": [suite(counted(400, lost=2, gained=4))]}),
        "the control differs": replace(priced(trusted=False), verdict=verdict(trusted=False, aa=UNTRUSTED)),
        "one block refused": compared(comparison(invalid_blocks=REFUSED[:1]), measurement=measurement((BLOCK,))),
        "several blocks refused": compared(comparison(invalid_blocks=REFUSED)),
        "one further doubt": doubted(finding("doubts.synthetic")),
        "all was predicted": asked(
            run(
                quality={"awq": quality()},
                verdict=verdict([*(comparison(c, "p95_e2e_ms", **LOSS) for c in (CHAT, BATCH))]),
            )
        ),
        "all was predicted, answers are lost": asked(scored(*(item(i, lost=i < 5) for i in range(20)))),
        "all was predicted, one answer is lost": asked(scored(item(0, lost=True), item(1))),
        "all was predicted, gains stand out": asked(
            compared(comparison(C1, ratio=1.5), comparison(CHAT), comparison(BATCH, **OPEN), quality={"awq": CLASSES})
        ),
        "all was predicted, nothing is measured": asked(compared(comparison(C1, ratio=None, code="invalid"))),
        "a predicted run": predicted(batch_p95_blowup="no", startup="slower", vram_reduction_pct=30, helps_more_at=1),
    },
    "cost": {
        "a saving and its break-even": priced(
            comparison(CHAT, ratio=1.25, ci_low=1.2, ci_high=1.3), quality={"awq": quality()}
        ),
        "a likely saving": open_cost(1.02, 1.3),
        "a likely loss": open_cost(0.7, 0.98),
        "an open saving": open_cost(0.9, 1.3),
        "several savings": priced(comparison(CHAT), comparison(BATCH, ratio=1.5)),
        "no price": priced(price=Price()),
        "a price as it was stated": priced(
            price=Price(hourly_price=1234.5678, utilisation=0.375, source="a quote", date="2026-11-19")
        ),
        "a price of nothing": priced(price=Price(hourly_price=0.0)),
        "a refused cell and an unmeasured one": priced(
            comparison(CHAT, n_pairs=4),
            comparison(BATCH, ratio=None, code="invalid"),
            capacity=[
                capacity(),
                capacity("awq", valid=False, blocks=4, blocks_invalid=2, reasons=("thermal_throttling",)),
                capacity("bf16", BATCH),
            ],
        ),
        "nothing was priced": priced(capacity=[]),
        "answers of a suite that end well": solved(*natural_answers.spread(60)),
        "answers of a suite that end badly": solved(
            *natural_answers.spread(57),
            *(natural_answers.item(57 + n, passed=False, **bad) for n, bad in enumerate(BAD_ENDS)),
        ),
        "answers of a suite, no price": solved(*natural_answers.spread(60), price=Price()),
        "answers of a suite, the control failed": solved(*natural_answers.spread(60), trusted=False),
        "answers of a suite, no test of speed": solved(
            *natural_answers.spread(60), rows=(comparison(ci_low=None, ci_high=None, code="no_test"),)
        ),
        "few of a suite are correct": solved(*(natural_answers.item(n, passed=n < 9) for n in range(60))),
        "other tokens reached a model": solved(*(natural_answers.item(n, same_input=n > 1) for n in range(60))),
    },
    "memory": {
        "how vLLM sees it": served(quantization=but(SEEN, bits_source="memory")),
        "without a kernel": served(quantization=but(SEEN, kernel=None)),
        "a model without a record": run(ready={"bf16": ready("bf16")}),
        "files stand for weights": run(
            memory=[memory("bf16"), memory("awq", checkpoint_reduction_pct=62.0, kv_cache_tokens_ratio=1)]
        ),
        "NVML is about equal": nvml(10_000, 9_600),
        "NVML differs": nvml(10_000, 9_000),
        "resident memory": run(
            memory=[memory(m, vram_source="rss", vram_before_mib=0, vram_after_mib=1400) for m in ("bf16", "awq")]
        ),
        "a blank with its reason": run(
            memory=[memory("bf16", weights_gib=3.0, kv_cache_gib=1.0), memory("awq")],
            ready={
                "bf16": ready("bf16"),
                "awq": ready("awq", memory=Memory(missing={"weights_gib": "not found: “loading took”"})),
            },
        ),
        "starts with unlike caches": started(
            Startup(total_s=60.0, compile_cache="warm"), Startup(total_s=100.0, compile_cache="cold")
        ),
        "phases explain little of a start": started(STARTS, STARTS),
        "a warm cache saves": rounds("cold", "warm"),
        "nothing was compiled": rounds("off"),
        "another share of the card": run(memory=[memory("awq", vram_source="nvml", vram_delta_reduction_pct=-8.0)]),
        "weights that did not shrink": run(memory=[memory("awq", quantization="W4A16", weights_reduction_pct=-1.0)]),
        "another setting": served(
            settings=Settings(enforce_eager=True, missing={"dtype": "why"}, inherited_env={"A": "b"})
        ),
        "one answered the test prompt": served(test_completion=Completion(prompt="Hello", text=" `you`")),
    },
    "verdict": {
        "two pairs": compared(comparison(code="no_test", n_pairs=2)),
        "too many blocks needed": compared(comparison(**OPEN)),
        "open when the budget was spent": compared(comparison(**OPEN, left_open="budget_spent")),
        "open with all blocks allowed": compared(comparison(**OPEN, left_open="most_blocks")),
        "open where no more was measured": compared(comparison(**OPEN, left_open="not_measured")),
        "energy was declared": compared(
            comparison(C1, "j_per_token", ratio=0.7), comparison(C8, "j_per_token", ratio=1.4, code="worse")
        ),
        "a control of no known width": run(verdict=verdict(aa=control(metrics={}))),
        "a control without a width": run(
            verdict=verdict(aa=control(metrics={"p50_ttft_ms": control().metrics["throughput_tok_s"]}))
        ),
    },
    "impact": {
        "chat gains more, with weights alone": unlike(1.4, 1.1, "W4A16"),
        "chat gains more": unlike(1.4, 1.1),
        "batch gains more, with activations": unlike(1.1, 1.4, "W8A8"),
        "batch gains more": unlike(1.1, 1.4, "", "engine", "engine"),
        "the client limits chat": unlike(1.1, 1.4, "", "client"),
        "the client limits batch": unlike(1.4, 1.1, "", "engine", "client"),
        "the front end limits chat": unlike(1.1, 1.4, "", "front_end"),
        "the front end limits batch": unlike(1.4, 1.1, "", "engine", "front_end"),
        "both lose, chat less": unlike(0.9, 0.7),
        "both lose, batch less": unlike(0.7, 0.9),
        "open in chat, higher in batch": compared(
            comparison(CHAT, **OPEN), comparison(BATCH, ratio=2.0, code="undecided")
        ),
        "open in batch, higher in chat": compared(
            comparison(BATCH, **OPEN), comparison(CHAT, ratio=2.0, code="undecided")
        ),
        "not told apart": compared(comparison(CHAT), comparison(BATCH)),
        "without an interval": unlike(1.4, 1.1, ci_low=None, ci_high=None),
        "one side alone": compared(comparison(CHAT)),
        "no side": replace(run(), plan=plan(variants=())),
    },
    "quality": {
        "answers that were lost": scored(*(item(i, lost=i < 4) for i in range(60))),
        "heavy damage": scored(*(item(i, lost=i < 40) for i in range(60))),
        "all of six lost": scored(*(item(i, lost=True) for i in range(6))),
        "many items, a margin in reach": suites(counted(400, lost=8, gained=6)),
        "few of many pass": suites(counted(400, lost=7, gained=4, passed=30)),
        "new loops": suites(looping(400, 20)),
        "some new loops": suites(looping(400, 4)),
        "as many loops as before": suites(looping(400, 20, 20)),
        "other tokens": suites([*counted(90), but(counted(1)[0], id="x", same_input=False)]),
        "likelihoods near": suites(counted(400), likelihood=likelihood(0.01), likelihood_floor=likelihood(0.001)),
        "a judge": suites(counted(400), preference=JUDGED),
        "a judge without a control": suites(counted(400), preference=but(JUDGED, false_preference=None)),
        "likelihoods on the way": suites(counted(400), likelihood=likelihood(0.14, 0.86)),
        "another most likely token": suites(counted(400), likelihood=likelihood(0.01, 0.8)),
        "a higher perplexity": suites(counted(400), likelihood=likelihood(0.01, ppl=1.4)),
        "likelihoods far": suites(counted(400), likelihood=likelihood(0.57, 0.7)),
        "an answer that was lost": scored(*(item(i, lost=not i) for i in range(60))),
        "too few prompts": scored(*map(item, range(20))),
        "no prompt that passes": scored(),
        "the baseline loses, too": scored(item(0, lost=True), floor=but(FLOOR, identical=58, lost=("p0",))),
        "code that is off": scored(item(0), not_run()),
        "code without a fence": scored(item(0), not_run(), not_run="no fence"),
        "no floor": answered(floor=but(FLOOR, measured=False)),
        "answers that are shorter, or cut": lengths(0.88, cut=2),
        "answers of the same length": lengths(1.01),
        "a person's notes": scored(item(0, note="rude"), item(1), notes=["dull"]),
        "asked eight at a time": answered(concurrency=8),
        **{
            f"thinking is {name}": answered(thinking=Thinking(declared=declared, thoughts=thoughts, cut=cut))
            for name, (declared, thoughts, cut) in THINKING.items()
        },
        "answers that differ": scored(but(item(0), identical=False)),
    },
    "factors": {
        "all that may be declared": declared(*get_args(Factor)),
        "another torch, nothing else that was declared": declared(
            "engine",
            "gpus",
            "kv_cache",
            "speculative",
            "max_model_len",
            own=but(TORCH, vllm="0.32.0"),
            settings=SAME_KV,
        ),
        "the baseline speculates": declared("speculative", settings=Settings(), base=Settings(speculative=True)),
        "several numbers of GPUs, no price": replace(
            priced(price=Price()), plan=plan(arms={"bf16": ArmPlan(gpus=2), "awq": ArmPlan(gpus=1)})
        ),
        "use per GPU": compared(
            comparison(CHAT, ratio=0.9, code="worse"),
            comparison(CHAT, PER_GPU, ratio=1.8),
            plan=plan(arms={"bf16": ArmPlan(gpus=2), "awq": ArmPlan(gpus=1)}),
            quality={"awq": quality()},
        ),
        "no ratio per GPU": compared(comparison(CHAT), comparison(CHAT, PER_GPU, ratio=None, code="invalid")),
        "a variant does not fit": run(plan=plan(unfit={"fp8": Unfit(gpus=2, weights_gib=60.0, card_gib=24.0)})),
        "models that were unpacked": run(
            ready={
                "bf16": ready("bf16", unpacked=GGUF),
                "awq": ready("awq", unpacked=but(GGUF, type="Q8_0", bits_per_weight=8.5, package=None, licence=None)),
                "fp8": ready("fp8", unpacked=but(GGUF, type="BF16", bits_per_weight=16.0)),
            }
        ),
        "the baseline does not fit, by its configuration, and one model is left": run(
            plan=plan(baseline="awq", variants=(), declared_baseline="bf16", unfit={"bf16": Unfit()}),
            verdict=verdict(()),
        ),
    },
    "iso_memory": {
        "the same number fits all": run(plan=plan(iso_memory={"chat": but(ISO, measured=False)})),
        "fewer may run than fit": same_memory(),
        "not what fits": same_memory(reasons=("61_IN_FLIGHT_50_FIT", "REQUESTS_OF_2100_TOKENS", "12_PREEMPTIONS")),
        "too few pairs": same_memory(ratio=None, code="no_test", n_pairs=1, reasons=("NEEDS_3_PAIRS",)),
    },
    "method": {
        "several versions and days": measured(
            versions={"bf16": Versions(vllm="0.32.0"), "awq": Versions(vllm="0.33.0")},
            last_block_at="2026-11-21T01:00:00+00:00",
        ),
        "own settings": run(plan=plan(server_differences={"awq": {"kv_cache_dtype": "fp8"}})),
        "unlike numbers of blocks": measured(
            blocks=Blocks(total=50, valid=49, invalid=(), cells=10, fewest_per_cell=4, most_per_cell=6)
        ),
        "partly interleaved": compared(comparison(CHAT), comparison(BATCH, interleaved=False)),
        "too few pairs for an order": compared(comparison(CHAT, n_pairs=1)),
        "one model alone": measured(order=Order(cells=0, example="", letters={})),
        "changes of model": measured(
            lane=LaneUse(
                modes=dict.fromkeys(("restart", "endpoint"), 1),
                switches=2,
                switch_s_median=0.5,
                switch_s_max=1.0,
                notes=("sleep failed",),
            )
        ),
        "further blocks were measured": measured(
            further=Further(budget_s=1800.0, spent_s=610.0, blocks={"chat/c16_t128": 4}, decided=3, answers=4)
        ),
        "no further block was needed": measured(
            further=Further(budget_s=1800.0, spent_s=0.0, blocks={}, decided=4, answers=4)
        ),
        "shares of the time": measured(
            share=Share(measured_s=9.0, held_s=10.0, share=0.9), wall=(WALL, but(WALL, lane="x", wall_s=0, share=None))
        ),
        "memory that did not come back": measured(
            sessions={
                m: SessionUse(**SESSION, memory_returned=back, events={})
                for m, back in (("bf16", True), ("awq", False))
            }
        ),
        "the client at its worst": measured(
            client=ClientUse(cpu_share_max=0.05, loop_lag_p99_ms_max=172.0, concurrency_held_min=0.98),
            calibration=tuple(
                Calibration(concurrency=c, ttft_error_p50_ms=e, limit_tok_s=None) for c, e in ((1, 0.05), (16, -0.08))
            ),
        ),
        "counters": measured(
            server=ServerUse(prefix_cache_hits=1, preemptions=0, generation_tokens=99, client_tokens=99, incidents={})
        ),
        "precision in all its states": run(
            verdict=verdict(
                precision=Precision(
                    target=0.02,
                    most_blocks=40,
                    reached=(precision(0),),
                    missing=(precision(4),),
                    out_of_reach=(precision(None),),
                    untested=(precision(None, None),),
                    refused=(precision(2),),
                    extra_blocks={CHAT.key: 10},
                )
            )
        ),
        "precision without an interval": run(
            verdict=verdict(
                precision=Precision(
                    target=0.02, most_blocks=40, missing=(precision(2, None),), extra_blocks={CHAT.key: 2}
                )
            )
        ),
        "a host that is not quiet": measured(
            host=HostUse(
                cpus=2,
                foreign_cpu_cores=0.42,
                foreign_cpu_cores_max=1.1,
                steal_share_max=0.031,
                throttled_share_max=0.02,
                elsewhere=True,
            ),
            scatter=Scatter(
                cells=SCATTERED,
                asked=FACTS,
                offered=(
                    Offered(fact="foreign_cpu_cores", tau=-0.62, p_value=0.001, blocks=24),
                    Offered(fact="steal_share", tau=-0.5, p_value=0.01, blocks=24),
                ),
            ),
        ),
        **{
            f"scatter goes with {fact}": measured(
                scatter=Scatter(cells=SCATTERED[:1], offered=(Offered(fact=fact, tau=0.7, p_value=0.01, blocks=12),))
            )
            for fact in ("throttled_share", "cpu_freq_mhz", "sm_clock_mhz_mean")
        },
        "scatter goes with nothing": measured(scatter=Scatter(cells=SCATTERED, asked=FACTS)),
        "scatter, and nothing is known": measured(scatter=Scatter(cells=SCATTERED)),
        "guards and checks that found something": measured(
            guards=GUARDS,
            checks=tuple(Check(id=i, of=of, status=s, detail=d) for i, of, s, d in CHECKS),  # type: ignore[arg-type]
        ),
        "refused blocks": measured(invalid=(BLOCK, but(BLOCK, block=2))),
        "one comparison is open": compared(comparison(C1, **OPEN, blocks_to_decide=7)),
        "one comparison is far": compared(comparison(C1, **OPEN)),
        "two comparisons are far": compared(comparison(C1, **OPEN), comparison(C8, **OPEN)),
        "one is near, one far": compared(comparison(C1, **OPEN, blocks_to_decide=7), comparison(C8, **OPEN)),
        "not seen in part, calibrated long ago": measured(
            telemetry_gaps={"power_w_mean": Gap(blocks=2, reason="NVML was lost")}, calibration_age_s=1e6
        ),
        "two starts in some comparisons": of_starts(1, 2),
        "three starts, the unit of an interval": of_starts(3, reasons=("START_IS_UNIT_OF_3",)),
        "two starts differ": of_starts(2, differs=True),
        "a block far from the others": doubted(
            finding("doubts.far_block", arm="awq", workload="chat", cell=C8.key, block=2, rate=57.3, usual=699.0)
        ),
        "doubts": doubted(
            finding("doubts.unseen", fields=["a", "b", "c", "d"], reason="no NVML"), finding("doubts.aa_absent")
        ),
        "without variants": run(
            plan=plan(variants=()), verdict=verdict(()), memory=[memory("bf16")], capacity=[capacity()]
        ),
    },
}


def sections(part: str, found: Run, say: Speech) -> Sequence[Section]:
    """The sections that a case is about."""
    if part == "capacity":
        return speed.sections(found, say, "interactive")
    if part == "decision":
        words: list[Part] = [text(*card.lines) for card in decision.cards(found, say)]
        words.extend(bullets([*ending.summary(found.decision, say), *last(found, say)]))  # type: ignore[arg-type]
        return (*decision.memo(found, say), decision.predictions(found, say), Section("Cards", tuple(words)))
    if part == "verdict":
        said = worded(say, found.verdict)
        return (Section("Verdict", (text(said.words), *(text(row.words) for row in said.rows))),)
    if part == "factors":
        said = (*bullets(factors.lines(found, say)), *bullets(decision.headline(found, say)))
        return (Section("Compared", said), *decision.memo(found, say), *cost.sections(found, say))
    if part == "iso_memory":
        own = iso_memory.section(found, say)
        return (*([own] if own else []), *decision.memo(found, say))
    if part == "impact":
        return (impact.section(found, say), *practices.sections(found, say))
    if part == "cost":
        return cost.sections(found, say)
    if part == "memory":
        return (memory_page.section(found, say), *practices.sections(found, say))
    if part == "quality":
        return (quality_page.section(found, say), *quality_page.answers_page(found, say).sections)
    return (method.section(found, say), method.doubts_section(found, say))


def last(found: Run, say: Speech) -> Iterator[str]:
    """The steps after a run, with the blocks that its precision plan adds."""
    assert found.decision
    return ending.steps(found.decision, found.verdict.precision, found.command, "notes.md", say)


def lines(part: str, found: Run) -> list[str]:
    found = judged(found)
    page = render.page(Page("", (), tuple(sections(part, found, Speech.of(found)))))
    return [line for line in page.splitlines() if line and not re.match(r"\|[ :|-]+$|#", line)]


def differences() -> str:
    """Under the name of each case the lines that its pages have and those of the plain run do not, each once."""
    written = ""
    for part, cases in CASES.items():
        plain = set(lines(part, run()))
        for name, found in cases.items():
            own = dict.fromkeys(line for line in lines(part, found) if line not in plain)
            written += "\n".join([f"## {part}: {name}\n", *own]) + "\n\n"
    return written
