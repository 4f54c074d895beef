"""From speed and quality to one recommendation per use and variant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from quantbench.judge.doubts import doubts
from quantbench.judge.predictions import scores
from quantbench.judge.starts import unseen
from quantbench.quality.gate import prompts_suite, verdicts
from quantbench.records.cell import Cell
from quantbench.records.comparison import Comparison
from quantbench.records.decision import Action, Choice, Confidence, Decision, MetricChange, QualityStatus, UseDecision
from quantbench.records.finding import Finding, finding
from quantbench.records.metric import COMPARED, METRICS, SPEED, Style
from quantbench.records.run import Run
from quantbench.records.suite import PROMPTS, GateStatus, GateUse, GateVerdict

USES: Final[dict[Style, GateUse]] = {"interactive": "chat", "batch": "batch"}
"""The use whose quality decides over a style of workload."""
STATUSES: Final[dict[GateStatus, QualityStatus]] = {
    "fine": "ok",
    "not acceptable": "not acceptable",
    "insufficient evidence": "not shown",
}
Gate = Mapping[str, tuple[GateVerdict, ...]]
"""{variant: the word on each use}."""
LATENCIES: Final = tuple(name for name in COMPARED if METRICS[name].kind == "time")
LEVELS: Final[tuple[Confidence, ...]] = ("high", "medium", "low")


def decide(run: Run) -> Decision:
    """What to do, per use, with what could still be wrong and how predictions came out."""
    gate = gates(run)
    return Decision(
        gpu=run.plan.gpu,
        gpu_name=run.measurement.gpu_name or run.plan.gpu_name,
        baseline=run.baseline,
        variants=run.plan.variants,
        trusted=run.trusted,
        uses=tuple(_use(run, style, options) for style in USES if (options := choices(run, style, gate))),
        gate=gate,
        left_out=tuple(left_out(run)),
        doubts=tuple(doubts(run)),
        predictions=tuple(scores(run)),
    )


def gates(run: Run) -> dict[str, tuple[GateVerdict, ...]]:
    """The gate's word on each variant of which answers were compared."""
    found = {}
    for variant in run.variants:
        scores = [*run.suites.get(variant, ())]
        if variant in run.quality and PROMPTS not in {score.suite for score in scores}:
            scores.insert(0, prompts_suite(run.quality[variant]))  # of a run from before there were suites
        if scores:
            found[variant] = verdicts(scores, run.plan.quality_margins)
    return found


def left_out(run: Run) -> Iterator[Finding]:
    """Of each model that does not fit: the arithmetic, and what stands in for it if it is the baseline."""
    for model, why in run.plan.unfit.items():
        form = "variant" if model != run.plan.declared_baseline else "baseline" if run.variants else "alone"
        known = why.weights_gib is not None and why.card_gib is not None
        sums = finding("factors.sums", n=why.gpus, weights=why.weights_gib, card=why.card_gib)
        values = {"model": model, "sums": sums if known else finding("factors.no_sums"), "baseline": run.baseline}
        yield finding("factors.unfit", form=form, **values)


def choices(run: Run, style: Style, gate: Gate) -> tuple[Choice, ...]:
    """One choice per workload of the style and variant."""
    return tuple(_choice(run, style, w, v, gate) for w in run.workloads(style) for v in run.variants)


def _use(run: Run, style: Style, options: tuple[Choice, ...]) -> UseDecision:
    top = best(options, run.plan.primary.workload)
    declared = (choice for choice in options if choice.workload == run.plan.primary.workload)
    level, because = confidence(run, top or next(declared, options[0]))
    keep = all(choice.action == "keep" for choice in options)
    return UseDecision(
        style=style,
        action=top.action if top else "keep" if keep else "undecided",
        variant=top.variant if top else None,
        workload=top.workload if top else None,
        confidence=level,
        confidence_because=tuple(because),
        choices=options,
    )


def _choice(run: Run, style: Style, workload: str, variant: str, gate: Gate) -> Choice:
    cell = run.deciding_cell(workload)
    speed = run.speed_row(variant, cell)
    status, because = _quality(gate.get(variant, ()), USES[style])
    return Choice(
        style=style,
        workload=workload,
        variant=variant,
        concurrency=cell.concurrency if cell else None,
        max_tokens=cell.max_tokens if cell else None,
        action=_action(run, speed, status),
        metric=speed.metric if speed else SPEED,
        code=speed.code if speed else None,
        ratio=speed.ratio if speed else None,
        ci_low=speed.ci_low if speed else None,
        ci_high=speed.ci_high if speed else None,
        got_worse=tuple(_got_worse(run, variant, cell)),
        quality=status,
        quality_because=because,
    )


def _quality(words: Sequence[GateVerdict], use: GateUse) -> tuple[QualityStatus, tuple[Finding, ...]]:
    judged = next((word for word in words if word.use == use), None)
    if judged is None:
        return "not measured", ()
    return STATUSES[judged.status], judged.because


def _action(run: Run, speed: Comparison | None, quality: QualityStatus) -> Action:
    """Quality can only forbid, never recommend; speed can only recommend where it is shown."""
    code = speed.code if speed else "invalid"
    if not run.trusted:
        return "undecided"
    if quality == "not acceptable" or code in ("worse", "equivalent"):
        return "keep"
    if code == "better":
        return "use" if quality == "ok" else "check"
    return "undecided"


def _got_worse(run: Run, variant: str, cell: Cell | None) -> Iterator[MetricChange]:
    """Latencies that got worse in the deciding cell."""
    for metric in LATENCIES:
        row = run.row(variant, cell, metric)
        if row and row.code == "worse" and row.ratio is not None:
            yield MetricChange(metric=metric, ratio=row.ratio)


def best(options: Sequence[Choice], primary: str) -> Choice | None:
    """The choice to name in the headline: "use" before "check", then the declared workload, then the best CI."""

    def rank(choice: Choice) -> tuple[bool, bool, float]:
        return choice.action == "use", choice.workload == primary, choice.ci_low or 0.0

    return max((choice for choice in options if choice.action in ("use", "check")), key=rank, default=None)


def confidence(run: Run, choice: Choice) -> tuple[Confidence, list[Finding]]:
    """How sure the choice is, and the reasons that lower it."""
    speed = run.speed_row(choice.variant, choice.cell)
    if speed is None or not speed.decided:
        return "low", [finding("confidence.speed_not_decided")]
    if not run.trusted:
        return "none", [finding("confidence.control_differs")]
    because = []
    if not speed.interleaved:
        because.append(finding("confidence.not_interleaved"))
    if not run.verdict.aa.present:
        because.append(finding("confidence.no_control"))
    if any((row.variant, row.cell) == (choice.variant, choice.cell) for row in unseen(run.verdict)):
        because.append(finding("confidence.starts_differ"))
    if refused := len(speed.invalid_blocks):
        because.append(finding("confidence.blocks_refused", n=refused))
    if choice.got_worse and choice.style == "interactive" and speed.code == "better":
        because.append(finding("confidence.latency_worse"))
    if choice.quality in ("not shown", "not measured"):
        because.append(finding("confidence.quality_open", status=choice.quality))
    return LEVELS[min(len(because), 2)], because
