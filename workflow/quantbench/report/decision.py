"""The decision in words: the headline of each use, and the one-page memo. What to do is in decision.json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from quantbench.config import command_line
from quantbench.judge.predictions import prompts_lost
from quantbench.records.cell import Cell
from quantbench.records.comparison import Comparison
from quantbench.records.decision import Choice, UseDecision
from quantbench.records.finding import Finding, finding
from quantbench.records.metric import METRICS, Style
from quantbench.records.run import Run
from quantbench.report import cost, speed
from quantbench.report.document import Code, Part, Section, Table, bullets, table, text
from quantbench.report.say import Speech
from quantbench.wording import integer, listing, number, sentence

USES: Final[dict[Style, str]] = {"interactive": "decision.chat", "batch": "decision.batch"}
ACTIONS: Final = {
    # what a headline begins with; `check` names what the variant does better
    "use": "decision.use",
    "check": "decision.check_faster",
    "check slower": "decision.check_more_tokens",
    "keep": "decision.keep",
    "undecided": "decision.undecided",
}
OUTCOMES: Final = {
    # what an alternative came to
    "use": "decision.outcome_usable",
    "check": "decision.outcome_check",
    "keep": "decision.outcome_no_gain",
    "undecided": "decision.outcome_undecided",
    "not acceptable": "decision.outcome_refused",
}
QUALITY: Final = {
    "ok": "decision.quality_ok",
    "not acceptable": "decision.quality_not_acceptable",
    "not shown": "decision.quality_not_shown",
    "not measured": "decision.quality_not_measured",
}
SAVINGS: Final = {
    # code of the throughput behind it, or what its interval suggests; all others show no saving
    "better": "decision.saving",
    "worse": "decision.dearer",
    "equivalent": "decision.saving_equivalent",
    "gain": "decision.saving_likely",
}
UNNAMED: Final = {"quality.lost_named": "quality.lost", "quality.lost_few_named": "quality.lost_few"}
"""What a headline says in place of a finding that names prompts."""
TOP_DOUBTS: Final = (
    *("doubts.aa_absent", "doubts.not_interleaved", "doubts.drifted", "doubts.refused", "doubts.no_quality"),
    "doubts.dummy",
)
"""Doubts that the memo says itself; marks and warning say others, notes.md says all."""
WHEN_DECIDED: Final = ("p50_ttft_ms", "p50_tpot_ms", "j_per_token")
"""Metrics that are evidence where a difference is shown."""


def warning(run: Run, say: Speech) -> str:
    """What stands first on every page of a run that is not to be trusted; "" where it is."""
    if run.trusted:
        return ""
    return say("decision.untrusted", control=finding("verdict.control_differs", metrics=run.verdict.aa.different))


def alone(run: Run, say: Speech) -> str:
    """What a run without a variant says in place of a decision; "" where there is one."""
    return "" if run.variants else say("decision.alone", model=run.baseline)


def headline(run: Run, say: Speech, *, confidence: bool = False) -> list[str]:
    """One sentence per use: what to do, by how much, how sure; without a variant, that there is nothing to decide."""
    if not run.variants:
        return [alone(run, say)]
    uses = run.decision.uses if run.decision else ()
    lines = [warning(run, say)]
    for use in uses:
        named = [use.chosen] if use.chosen else use.choices
        reasons = [_choice(run, say, choice, named=len(named) > 1) for choice in named if choice]
        sure = confidence_sentence(say, use) if confidence else ""
        lines.append(" ".join(filter(None, [f"**{lead(say, use, run.baseline)}**", *reasons, sure])))
    return [line for line in lines if line]


def lead(say: Speech, use: UseDecision, baseline: str) -> str:
    """ "Chat: use INT8.": what to do, in one sentence."""
    chosen = use.chosen
    slower = chosen is not None and use.action == "check" and chosen.got_worse
    words = ACTIONS["check slower" if slower else use.action]
    return say(words, use=say(USES[use.style]), model=chosen.variant if chosen else baseline)


def confidence_sentence(say: Speech, use: UseDecision) -> str:
    """How sure a decision is, and what lowers it."""
    because = list(use.confidence_because)
    if use.action == "undecided":  # then the headline says that the speed is not decided
        because = [reason for reason in because if reason.id != "confidence.speed_not_decided"]
    if not because:
        return say("decision.confidence", level=use.confidence)
    return say("decision.confidence_because", level=use.confidence, because=because)


def _choice(run: Run, say: Speech, choice: Choice, *, named: bool) -> str:
    """Speed, what got worse, quality: "INT8: tokens/sec improved at c=16 (+19.7 % [+7.0, +33.9]); quality OK (…)"."""
    row = run.row(choice.variant, choice.cell, speed.THROUGHPUT)
    clauses = [f"tokens/sec: {speed_clause(run, say, row)}"]
    if len(run.workloads(choice.style)) > 1:
        clauses[0] = f"{choice.workload} {clauses[0]}"
    if choice.got_worse and choice.code != "worse":
        clauses.append(got_worse(say, choice))
    clauses.append(quality_clause(say, choice))
    words = "; ".join(clauses)
    return sentence(f"{run.label(choice.variant)}: {words}" if named else words)


def speed_clause(run: Run, say: Speech, row: Comparison | None) -> str:
    """What happened to the deciding metric: "improved at c=16 (+19.7 % [+7.0, +33.9])"; why it has no verdict."""
    if row is None:
        return say("decision.not_compared")
    words = speed.clause(say, [row], run.cells(row.workload))
    because = speed.why(say, row) if row.code in ("invalid", "no_test") else []
    return f"{words}, as {listing(because)}" if because else words


def got_worse(say: Speech, choice: Choice) -> str:
    """ "p50 TTFT got worse (+234 %)"."""
    changes = [finding("decision.change", metric=entry.metric, ratio=entry.ratio) for entry in choice.got_worse]
    return say("decision.got_worse", changes=[say(entry) for entry in changes])


def quality_clause(say: Speech, choice: Choice) -> str:
    """ "quality OK (lost 0 of 30)", without the names of the prompts."""
    because = [Finding(id=UNNAMED.get(f.id, f.id), values=f.values) for f in choice.quality_because]
    words = say(QUALITY[choice.quality])
    return f"{words} ({'; '.join(map(say, because))})" if because and choice.quality != "not measured" else words


def memo(run: Run, say: Speech) -> list[Section]:
    """The decision memo: decision first, then the evidence; without a variant, what is known of the baseline."""
    decision = Section("Decision", bullets(headline(run, say, confidence=True)))
    untested = Section("What was not tested", bullets(list(_not_tested(run, say))))
    costs = Section("Cost", bullets(cost_lines(run, say)))
    reproduce = Section("Reproduce", (Code(command_line.text(run.command)),))
    if not run.variants:
        return [decision, untested, costs, reproduce]
    worse = bullets(list(what_got_worse(run, say))) or (text(say("decision.nothing_worse")),)
    return [
        decision,
        Section("Evidence", (evidence_table(run, say),)),
        Section("What got worse", worse),
        untested,
        costs,
        Section("Rollback thresholds", _rollback(run, say)),
        Section("Alternatives", bullets(list(_alternatives(run, say)))),
        reproduce,
    ]


def scope(run: Run, say: Speech) -> str:
    """What was measured, where and when."""
    versions = run.measurement.versions.get(run.baseline)
    vllm = versions.vllm if versions else None
    parts = [
        run.plan.gpu_name,
        f"vLLM {vllm}" if vllm else "",
        (run.measurement.first_block_at or "")[:10],
        *(_workload(run, name) for name in run.workloads()),
    ]
    return say("decision.scope", parts="; ".join(filter(None, parts)))


def _workload(run: Run, name: str) -> str:
    cells = run.cells(name)
    loads = "/".join(dict.fromkeys(str(cell.concurrency) for cell in cells))
    return f"{name} c={loads} max_tokens={'/'.join(dict.fromkeys(str(cell.max_tokens) for cell in cells))}"


def evidence_table(run: Run, say: Speech) -> Table:
    """A row per figure, a column per model; variants have their value, the ratio with CI and mark.

    The deciding metric and the tail always, other metrics where a difference is shown.
    """
    lines: list[list[str]] = []
    compared: list[Comparison] = []
    for workload in run.workloads():
        cell = run.deciding_cell(workload)
        for metric in _evidence(run, workload, cell):
            rows = [run.row(variant, cell, metric) for variant in run.variants]
            compared += [row for row in rows if row]
            lines.append(_speed_line(run, workload, cell, metric, rows))
    lines += _memory_lines(run)
    if run.quality:
        passed = next(iter(run.quality.values())).passed.baseline
        words = [
            f"{integer(q.passed.variant)}; {q.verdict.word}" if (q := run.quality.get(v)) else "" for v in run.variants
        ]
        lines.append(["prompts passed", integer(passed), *words])
    notes = [say("decision.legend", legend=speed.legend(say, compared))] if compared else []
    return table(["figure", *map(run.label, run.models)], lines, notes=notes, words=range(len(run.models) + 1))


def _evidence(run: Run, workload: str, cell: Cell | None) -> list[str]:
    """Metrics that are evidence in a deciding cell, what decides first."""
    rows = [row for row in run.compared(workload) if row.cell == cell]
    tails = [row for row in rows if row.metric == "p95_e2e_ms"]
    tail = "p95_e2e_ms" if tails and all(row.ratio is not None for row in tails) else "p50_e2e_ms"
    shown = {row.metric for row in rows if row.code in ("better", "worse")}
    deciding = [run.plan.primary.metric] if workload == run.plan.primary.workload else []
    wanted = [*deciding, speed.THROUGHPUT, *(m for m in WHEN_DECIDED if m in shown), tail]
    known = {row.metric for row in rows if row.baseline_value is not None} | {speed.THROUGHPUT, *deciding}
    return list(dict.fromkeys(metric for metric in wanted if metric in known))


def _speed_line(
    run: Run, workload: str, cell: Cell | None, metric: str, rows: Sequence[Comparison | None]
) -> list[str]:
    base = next((row.baseline_value for row in rows if row and row.baseline_value is not None), None)
    where = f"{workload} {run.place(cell)}" if cell else workload
    name = f"{where}: {METRICS[metric].words}{_unit(metric)}"
    cells = [
        f"{number(row.variant_value)}; {speed.ratio_cell(row)}"
        if row and row.ratio is not None and row.code != "invalid"
        else "not compared"
        for row in rows
    ]
    return [name, number(base), *cells]


def _unit(metric: str) -> str:
    return "" if metric == speed.THROUGHPUT else f" ({METRICS[metric].unit})"


def _memory_lines(run: Run) -> Iterator[list[str]]:
    rows = [run.memory_of(model) for model in run.models]
    if any(row.weights_gib is not None for row in rows):
        yield ["weights (GiB)", *(number(row.weights_gib) for row in rows)]
    if len({row.kv_cache_tokens for row in rows}) > 1:
        yield ["KV cache (tokens)", *(integer(row.kv_cache_tokens) for row in rows)]


def what_got_worse(run: Run, say: Speech) -> Iterator[str]:
    """Worse metrics by cell, and prompts lost."""
    for variant in run.variants:
        by_metric: dict[str, list[str]] = {}
        for row in run.compared(variant=variant):
            if row.code == "worse":
                where = f"{row.workload} {run.place(row.cell)} ({speed.figure(row)})"
                by_metric.setdefault(row.metric, []).append(where)
        for metric, places in by_metric.items():
            yield say("decision.worse", model=variant, metric=metric, places=places)
        if variant in run.quality and run.quality[variant].worse:
            yield say("decision.answers_worse", model=variant, lost=prompts_lost(run.quality[variant]))


def _not_tested(run: Run, say: Speech) -> Iterator[str]:
    """What weighs most of what could still be wrong, and what the prompts cannot exclude."""
    doubts = run.decision.doubts if run.decision else ()
    top = [doubt for doubt in doubts if doubt.id in TOP_DOUBTS]
    yield from map(say, top)
    bounds = [
        finding("decision.bound", model=variant, bound=bound, n=details.verdict.n)
        for variant, details in run.quality.items()
        if (bound := details.verdict.loss_rate_upper_95) is not None
    ]
    if bounds:
        yield say("decision.bounds", bounds=bounds)
    if more := len(doubts) - len(top):
        yield say("decision.more_doubts", n=more)


def cost_lines(run: Run, say: Speech) -> list[str]:
    """The price, and one line per workload: what the baseline costs and each variant saves."""
    return [say(cost.price(run)), *(_cost_line(run, say, workload) for workload in run.workloads() if run.cost)]


def _cost_line(run: Run, say: Speech, workload: str) -> str:
    row = run.cost_row(run.baseline, run.deciding_cell(workload))
    costs = []
    if run.cost and row and row.cost_per_1m_tokens is not None:
        values = {"cost": row.cost_per_1m_tokens, "currency": run.cost.assumptions.currency}
        costs.append(say("decision.costs", model=run.baseline, **values))
    return say("decision.savings", workload=workload, savings="; ".join([*costs, *savings(run, say, workload)]))


def savings(run: Run, say: Speech, workload: str) -> list[str]:
    """ "INT8 saves 16.5 % [6.6, 25.3]", per variant: of the bill, in the deciding cell."""
    return [_saving(run, say, workload, variant) for variant in run.variants]


def _saving(run: Run, say: Speech, workload: str, variant: str) -> str:
    cell = run.deciding_cell(workload)
    saving, row = run.saving(variant, cell), run.row(variant, cell, speed.THROUGHPUT)
    if saving is None or saving.saving_pct is None:
        return say("decision.saving_unknown", model=variant)
    ends = [saving.ci_low_pct, saving.ci_high_pct]
    sign = -1 if saving.code == "worse" else 1
    shown = sorted(sign * end for end in ends if end is not None)
    interval = f" [{', '.join(map(_points, shown))}]" if len(shown) == len(ends) else ""
    outcome = (row.likely if row else None) or saving.code
    words = SAVINGS.get(outcome, "decision.no_saving") if run.trusted else "decision.no_saving"
    return say(words, model=variant, by=sign * saving.saving_pct / 100, interval=interval)


def _points(percent: float) -> str:
    return f"{percent:.1f}".replace("-", "−")


def _rollback(run: Run, say: Speech) -> tuple[Part, ...]:
    """Live metrics and the measured thresholds at which to go back; from valid blocks only."""
    lines = []
    for workload in run.workloads():
        cell = run.deciding_cell(workload)
        base = run.capacity_row(run.baseline, cell)
        if cell is None or base is None or not base.blocks:
            continue
        tail = next((m for m in ("p95_e2e_ms", "p50_e2e_ms") if base.number(m) is not None), None)
        if tail:
            values = {"limit": base.number(tail), "least": base.number(speed.THROUGHPUT)}
            lines.append(say("decision.rollback", workload=workload, cell=cell, metric=tail, **values))
    return (text(say("decision.rollback_to", model=run.baseline)), *bullets([*lines, say("decision.rollback_answers")]))


def _alternatives(run: Run, say: Speech) -> Iterator[str]:
    """Each variant's outcome per use, and what else there is."""
    uses = run.decision.uses if run.decision else ()
    for variant in run.variants:
        outcomes: dict[str, list[str]] = {}
        for use in uses:
            for choice in use.choices:
                if choice.variant == variant:
                    outcomes.setdefault(_outcome(say, choice), []).append(say(USES[use.style]).lower())
        each = [f"{listing(dict.fromkeys(names))} {outcome}" for outcome, names in outcomes.items()]
        yield say("decision.alternative", model=variant, outcomes="; ".join(each))
    yield say("decision.alternative_none", model=run.baseline)


def _outcome(say: Speech, choice: Choice) -> str:
    refused = choice.action == "keep" and choice.quality == "not acceptable"
    return say(OUTCOMES["not acceptable" if refused else choice.action])
