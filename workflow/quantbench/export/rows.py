"""The typed records of a results folder → the rows of the export. Nothing is computed that a record does not say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from quantbench.export.figures import COSTS, FACTS, FIGURES, LIKELIHOOD, MEMORY, RATES, STARTS
from quantbench.judge.summary import ENERGY_GUARD
from quantbench.records.block import BlockContext, Percentile
from quantbench.records.cell import AA_SUFFIX, Cell, served_model
from quantbench.records.codes import blanks_percentile, code, is_guard, parse
from quantbench.records.comparison import Comparison, IsoComparison, Verdict
from quantbench.records.cost import CorrectCost, Cost
from quantbench.records.decision import Decision
from quantbench.records.export import ExportRow
from quantbench.records.layout import PATHS
from quantbench.records.measurement import Measurement, RefusedBlock
from quantbench.records.metric import METRICS
from quantbench.records.natural import Natural
from quantbench.records.quality import QualityDetails
from quantbench.records.server import Ready
from quantbench.records.suite import PROMPTS, Answered, Estimate, GateVerdict, Likelihood, SuiteScore
from quantbench.records.tables import CapacityRow, ImpactRow, MemoryRow, StartupRow
from quantbench.stats import PERCENTILE_NEEDS

NOT_MEASURED: Final = code("not_measured")
_NO_PERCENTILE: Final = Percentile(None, None, None, 0)
_USES: Final = {"interactive": "chat", "batch": "batch"}


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """What a results folder holds, typed; absent files (a run that goes on, an older one) are empty or None.

    run: the folder as it was named; fleet, comparison: where it is one of a fleet. tuples, blocks: each
    with its file below `run`.
    """

    run: str
    gpu: str
    fleet: str | None = None
    comparison: str | None = None
    tuples: Sequence[tuple[str, CapacityRow]] = ()
    blocks: Sequence[tuple[str, BlockContext]] = ()
    verdict: Verdict | None = None
    measurement: Measurement | None = None
    decision: Decision | None = None
    cost: Cost | None = None
    memory: Sequence[MemoryRow] = ()
    startup: Sequence[StartupRow] = ()
    impact: Sequence[ImpactRow] = ()
    quality: Sequence[QualityDetails] = ()
    scores: Sequence[SuiteScore] = ()
    ready: Mapping[str, Ready] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nothing of a run was found."""
        return not (self.tuples or self.blocks or self.verdict or self.measurement or self.ready or self.memory)

    @property
    def baseline(self) -> str | None:
        """The model that the others are compared with, as the conclusions name it."""
        known = (record.baseline for record in (self.decision, self.verdict) if record)
        return next(known, None)

    @property
    def gpu_name(self) -> str | None:
        """The device, by its name in the config."""
        if self.decision:
            return self.decision.gpu_name
        return next((row.gpu_name for _, row in self.tuples if row.gpu_name), None)

    @property
    def measured_at(self) -> datetime | None:
        """When the last block was begun."""
        if self.measurement and self.measurement.last_block_at:
            return _moment(self.measurement.last_block_at)
        return max((_moment(block.started_at) for _, block in self.blocks), default=None)

    @property
    def labels(self) -> dict[str, str]:
        """{model: as pages name it}."""
        of_starts = {row.model: row.label for row in self.startup}
        return of_starts | {row.model: row.label for row in self.memory}


class _Point(NamedTuple):
    """A figure before it is said which run it is of. name: an entry of `FIGURES`."""

    name: str
    value: Any
    model: str | None = None
    cell: Cell | None = None
    workload: str | None = None
    of: str = ""
    low: float | None = None
    high: float | None = None
    confidence: float = 0.95
    n: int | None = None
    n_of: str | None = None
    verdict: str | None = None
    valid: bool | None = None
    reasons: Iterable[str] = ()
    suite: str | None = None
    use: str | None = None
    block: int | None = None
    file: str | None = None
    at: datetime | None = None
    currency: str = ""


def rows(files: RunFiles, tool: str) -> Iterator[ExportRow]:
    """All figures of a run, in the order of its files. tool: hash of the code that does this."""
    run = _OfRun(files, tool)
    for point in _points(files):
        yield run.row(point)


class _OfRun:
    """What all rows of a run, and all of a model, have in common."""

    def __init__(self, files: RunFiles, tool: str) -> None:
        self.files, self.labels, self.measured_at = files, files.labels, files.measured_at
        protocols = {block.protocol for _, block in files.blocks}
        self.common = {
            "run": files.run,
            "fleet": files.fleet,
            "comparison": files.comparison,
            "gpu": files.gpu,
            "gpu_name": files.gpu_name,
            "baseline": files.baseline,
            "protocol": protocols.pop() if len(protocols) == 1 else None,
            "tool": tool,
        }
        self.of_model = {model: _identity(ready) for model, ready in files.ready.items()}
        versions, hardware = ({known.get(key) for known in self.of_model.values()} for key in ("vllm", "hardware"))
        self.of_all = {
            "vllm": versions.pop() if len(versions) == 1 else None,
            "hardware": (hardware.pop() if len(hardware) == 1 else None)
            or (files.measurement.gpu if files.measurement else None),
        }

    def row(self, point: _Point) -> ExportRow:
        """A figure as a row."""
        figure, model = FIGURES[point.name], point.model and served_model(point.model)
        value = None if point.value is None else float(point.value)
        reasons = ";".join(dict.fromkeys(point.reasons)) or (NOT_MEASURED if value is None else "")
        has_interval = point.low is not None or point.high is not None
        unknown = {"source": None, "quantization": None}
        nowhere = {"workload": point.workload, "concurrency": None, "max_tokens": None}
        cell = point.cell.columns if point.cell else nowhere
        return ExportRow(
            **{**self.common, **unknown, **self.of_all, **self.of_model.get(model or "", {}), **cell},
            model=point.model,
            label=self.labels.get(model or ""),
            block=point.block,
            suite=point.suite,
            use=point.use,
            metric=figure.called(point.of),
            value=value,
            unit=point.currency or figure.unit,
            ci_low=point.low,
            ci_high=point.high,
            confidence=point.confidence if has_interval else None,
            n=point.n,
            n_of=point.n_of if point.n is not None else None,
            verdict=point.verdict,
            valid=point.valid,
            reasons=reasons,
            file=point.file or PATHS[figure.file].format(suite=point.suite, variant=point.model),
            measured_at=point.at or self.measured_at,
        )


def _identity(ready: Ready) -> dict[str, Any]:
    """What is known of a model's server; an older one may be known to the run as a whole."""
    of: dict[str, Any] = {
        "vllm": ready.versions.vllm,
        "hardware": ", ".join(ready.hardware.names) if ready.hardware else None,
        "source": ready.source,
        "quantization": ready.quantization.label,
    }
    return {key: value for key, value in of.items() if value is not None}


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _points(files: RunFiles) -> Iterator[_Point]:
    refused = {_block_key(block): block for block in files.measurement.blocks.invalid} if files.measurement else None
    for file, block in files.blocks:
        yield from _of_block(file, block, refused)
    for file, row in files.tuples:
        yield from _of_tuple(file, row)
    if files.verdict:
        yield from _of_verdict(files.verdict)
    yield from map(_of_impact, files.impact)
    if files.measurement:
        yield from _of_measurement(files.measurement)
    for memory in files.memory:
        yield from _of_memory(memory)
    for startup in files.startup:
        yield from _of_startup(startup)
    if files.cost:
        yield from _of_cost(files.cost)
    for details in files.quality:
        yield from _of_quality(
            details, scored=any(s.suite == PROMPTS and s.variant == details.variant for s in files.scores)
        )
    for score in files.scores:
        yield from _of_suite(score)
    if files.decision:
        yield from _of_decision(files.decision)


# --- Blocks and tuples -----------------------------------------------------------------------------------------------


def _block_key(block: BlockContext | RefusedBlock) -> tuple[str, Cell, int]:
    return block.model, block.cell, block.block


def _of_block(
    file: str, block: BlockContext, refused: Mapping[tuple[str, Cell, int], RefusedBlock] | None
) -> Iterator[_Point]:
    """Guards are judged with the configuration, which a folder does not hold: what the run's own record says stands."""
    refusal = refused.get(_block_key(block)) if refused else None
    guards = refusal.reasons if refusal else ()
    asked = block.metrics.get("n")
    short = [code("steady_too_short")] if block.metrics.get("steady_s") is None else []
    for name, value in block.metrics.items():
        own = block.percentiles.get(name, _NO_PERCENTILE)
        why = [own.reason] if own.reason else _blank(name, value, short, asked)
        yield _Point(
            name,
            value,
            model=block.arm,
            cell=block.cell,
            block=block.block,
            low=own.low,
            high=own.high,
            n=own.n if name in block.percentiles else None,
            n_of="requests",
            valid=None if refused is None else refusal is None,
            reasons=(*guards, *why),
            file=file,
            at=_moment(block.started_at),
        )


def _of_tuple(file: str, row: CapacityRow) -> Iterator[_Point]:
    guards = [reason for reason in row.reasons if is_guard(reason) and reason != ENERGY_GUARD]
    used = row.number("n_used")
    values = {"blocks": row.blocks, "blocks_invalid": row.blocks_invalid, **row.values}
    for name, value in values.items():
        if name in FIGURES:
            percentile = name in METRICS and METRICS[name].q
            low, high = row.number(f"{name}_lo"), row.number(f"{name}_hi")
            yield _Point(
                name,
                value,
                model=row.model,
                cell=row.cell,
                low=low,
                high=high,
                n=int(used) if percentile and used is not None else row.blocks,
                n_of="requests" if percentile else "blocks",
                verdict=row.values.get("bound") if name in ("bandwidth_share", "compute_share") else None,
                valid=row.valid,
                reasons=(*guards, *(_blank(name, value if low is not None else None, row.reasons, used))),
                file=file,
            )


def _blank(name: str, value: Any, reasons: Iterable[str], used: float | None = None) -> list[str]:
    """The codes, of those of a row, that say why one figure, or its interval, is blank."""
    if value is not None:
        return []
    metric = METRICS.get(name)
    found = [reason for reason in reasons if _concerns(parse(reason), name)]
    if not found and metric and metric.q and used is not None and used < PERCENTILE_NEEDS[metric.q]:
        return [code("percentile_needs", q=metric.q, n=PERCENTILE_NEEDS[metric.q])]
    return sorted(found, key=lambda reason: not blanks_percentile(reason))


def _concerns(reason: Any, name: str) -> bool:
    """Whether a code of a row is of this column."""
    metric = METRICS.get(name)
    if metric is None or not metric.q:
        of = {"steady_too_short": "steady", "energy_mismatch": "j_per_token", "bound": "_share"}
        return any(reason.name.startswith(start) and column in name for start, column in of.items())
    if "time" in reason.values or reason.name == "itl_needs_single_tokens":
        return bool(metric.time.upper() == reason.values.get("time", "ITL"))
    return bool(reason.values.get("q") == metric.q) or (reason.name == "ci_needs_blocks" and metric.limits)


# --- Comparisons -----------------------------------------------------------------------------------------------------


def _of_verdict(verdict: Verdict) -> Iterator[_Point]:
    for row in verdict.rows:
        yield _ratio("ratio_{of}", row)
    for row in verdict.iso_memory:
        yield _ratio("iso_ratio_{of}", row)
    cell = Cell.parse(verdict.aa.cell) if verdict.aa.present and verdict.aa.cell else None
    for metric, entry in verdict.aa.metrics.items() if cell else ():
        yield _Point(
            "ratio_{of}",
            entry.ratio,
            model=f"{verdict.baseline}{AA_SUFFIX}",
            cell=cell,
            of=metric,
            low=entry.ci_low,
            high=entry.ci_high,
            n=entry.n_pairs,
            n_of="pairs",
            verdict=entry.code,
            valid=entry.code != "invalid",
            reasons=[entry.reason] if entry.reason else (),
        )
    for drift in verdict.drift:
        yield _Point(
            "drift_{of}",
            drift.percent,
            model=verdict.baseline,
            cell=drift.cell,
            of=drift.metric,
            low=drift.ci_low_pct,
            high=drift.ci_high_pct,
            n=drift.n,
            n_of="blocks",
            reasons=[drift.reason] if drift.reason else (),
        )


def _ratio(name: str, row: Comparison | IsoComparison) -> _Point:
    return _Point(
        name,
        row.ratio,
        model=row.variant,
        cell=row.cell,
        of=row.metric,
        low=row.ci_low,
        high=row.ci_high,
        n=row.n_pairs,
        n_of="pairs",
        verdict=row.code,
        valid=row.valid,
        reasons=(*row.blockers, *row.reasons),
    )


def _of_impact(row: ImpactRow) -> _Point:
    return _Point(
        "chat_vs_batch_quotient",
        row.quotient,
        model=row.variant,
        low=row.quotient_ci_low,
        high=row.quotient_ci_high,
        verdict=row.helps_more,
        reasons=[row.reason] if row.reason else (),
    )


# --- The run, its memory and its starts ------------------------------------------------------------------------------


def _of_measurement(measurement: Measurement) -> Iterator[_Point]:
    yield _Point("measured_s", measurement.measured_s)
    yield _Point("measured_share", measurement.share.share)
    yield _Point("run_blocks", measurement.blocks.total)
    yield _Point("run_blocks_invalid", len(measurement.blocks.invalid))
    for use in measurement.cells:
        for name in FACTS:
            why = [use.bound_reason] if name in ("step_ms", "floor_ms") and use.bound_reason else ()
            yield _Point(
                name, getattr(use, name), model=use.model, cell=use.cell, n=use.blocks, n_of="blocks", reasons=why
            )


def _of_memory(row: MemoryRow) -> Iterator[_Point]:
    return (_Point(name, getattr(row, name), model=row.model) for name in MEMORY)


def _of_startup(row: StartupRow) -> Iterator[_Point]:
    kind = "run" if row.source == "run" else row.compile_cache
    for name in STARTS if kind in ("run", "cold", "warm") else ():
        yield _Point(f"startup_{kind}_{name}", getattr(row, name), model=row.model, n=row.starts, n_of="starts")


# --- Costs and answers -----------------------------------------------------------------------------------------------


def _of_cost(cost: Cost) -> Iterator[_Point]:
    currency = cost.assumptions.currency
    unasked = {"tokens_per_request", "replicas" if cost.assumptions.peak_requests_per_s is None else ""}
    unasked |= {"energy_cost_per_1m_tokens"} if cost.assumptions.energy_price_kwh is None else set()
    for row in cost.rows:
        for name in COSTS:
            if name in unasked and getattr(row, name) is None:
                continue
            own = FIGURES[name].unit == "currency"
            yield _Point(
                name,
                getattr(row, name),
                model=row.model,
                cell=row.cell,
                valid=code("invalid_cell") not in row.reasons,
                reasons=row.reasons if getattr(row, name) is None else (),
                currency=currency if own else "",
            )
    for model in dict.fromkeys(row.model for row in cost.rows):
        if (price := cost.assumptions.of(model)) is not None:
            yield _Point("price_per_hour", price, model=model, currency=currency)
    for saving in cost.savings:
        yield _Point(
            "saving_pct",
            saving.saving_pct,
            model=saving.variant,
            cell=saving.cell,
            low=saving.ci_low_pct,
            high=saving.ci_high_pct,
            verdict=saving.code,
            valid=saving.code != "invalid",
            reasons=saving.reasons,
        )
    for correct in cost.correct:
        yield from _of_correct(correct, currency)
    for natural in cost.natural:
        yield from _of_natural(natural)


def _of_correct(row: CorrectCost, currency: str) -> Iterator[_Point]:
    for name, estimate, unit in (
        ("cost_per_correct_answer", row.variant_cost, currency),
        ("cost_per_correct_answer_of_baseline", row.baseline_cost, currency),
        ("correct_answer_cost_ratio", row.ratio, ""),
        ("cost_per_retry", row.retry_cost, currency),
        ("retry_cost_ratio", row.retry_ratio, ""),
    ):
        yield _estimate(name, estimate, model=row.variant, cell=row.cell, reasons=row.reasons, currency=unit)


def _of_natural(row: Natural) -> Iterator[_Point]:
    why = row.reasons
    yield _estimate("answer_length_ratio", row.length_ratio, model=row.variant, reasons=why)
    for name, value in (("answer_tokens", row.variant_tokens), ("answer_tokens_of_baseline", row.baseline_tokens)):
        yield _Point(name, value, model=row.variant, n=row.items, n_of="items", reasons=why if value is None else ())
    for rate in RATES:
        of = getattr(row, rate)
        for side, after in (("variant", ""), ("baseline", "_of_baseline"), ("difference", "_difference")):
            estimate = getattr(of, side, None)
            yield _estimate(f"answers_{rate}_share{after}", estimate, model=row.variant, reasons=why)


def _estimate(
    name: str, estimate: Estimate | None, *, reasons: Iterable[str] = (), n_of: str = "items", **of: Any
) -> _Point:
    if estimate is None:
        return _Point(name, None, reasons=reasons, **of)
    why = reasons if estimate.low is None else ()
    return _Point(
        name, estimate.value, low=estimate.low, high=estimate.high, n=estimate.n, n_of=n_of, reasons=why, **of
    )


def _of_quality(details: QualityDetails, *, scored: bool) -> Iterator[_Point]:
    """Older runs have no score of the quality prompts beside their details."""
    of: dict[str, Any] = {"model": details.variant, "suite": PROMPTS, "n": details.prompts, "n_of": "items"}
    file: dict[str, Any] = {"file": PATHS["quality_details"].format(variant=details.variant)}
    yield _Point("answers_identical_share", details.identical_share, **of, **file)
    if not scored and details.prompts:
        yield _Point("suite_passed_share", details.passed.variant / details.prompts, **of, **file)
        yield _Point("suite_passed_share_of_baseline", details.passed.baseline / details.prompts, **of, **file)
        yield _Point("suite_lost", len(details.worse), **of, **file)
        yield _Point("suite_gained", len(details.better), **of, **file)


def _of_suite(score: SuiteScore) -> Iterator[_Point]:
    of: dict[str, Any] = {"model": score.variant, "suite": score.suite}
    if score.outcomes:
        yield from _of_outcomes([(item.baseline, item.variant) for item in score.outcomes], of)
        yield _Point("suite_unanswered", len(score.unanswered), n=len(score.outcomes), n_of="items", **of)
    if score.likelihood:
        yield from _of_likelihood(score.likelihood, "", of)
    if score.likelihood_floor:
        yield from _of_likelihood(score.likelihood_floor, "floor_", of)
    if judged := score.preference:
        yield _estimate("judge_share", judged.share, n_of="pairs", **of)
        yield _Point("judge_false_preference", judged.false_preference, n=judged.control, n_of="pairs", **of)
        yield _Point("judge_ties", judged.ties, n=judged.pairs, n_of="pairs", **of)
        yield _Point("judge_failed", judged.failed, n=judged.pairs + judged.failed, n_of="pairs", **of)


def _of_outcomes(pairs: Sequence[tuple[Answered, Answered]], of: Mapping[str, Any]) -> Iterator[_Point]:
    told = [(a.passed, b.passed) for a, b in pairs if a.passed is not None and b.passed is not None]
    counts = {
        "suite_passed_share": sum(b for _, b in told),
        "suite_passed_share_of_baseline": sum(a for a, _ in told),
        "suite_lost": sum(a and not b for a, b in told),
        "suite_gained": sum(b and not a for a, b in told),
    }
    for name, count in counts.items():
        share = FIGURES[name].unit == "share"
        value = (count / len(told) if told else None) if share else count
        yield _Point(name, value, n=len(told), n_of="items", **of)


def _of_likelihood(found: Likelihood, before: str, of: Mapping[str, Any]) -> Iterator[_Point]:
    for name in LIKELIHOOD:
        value = getattr(found, name)
        if isinstance(value, Estimate):
            yield _estimate(f"{before}{name}", value, n_of="prompts", **of)
        elif value is not None or name != "first_divergence":  # none differed: there is nothing to tell
            yield _Point(f"{before}{name}", value, n=found.prompts, n_of="prompts", **of)


def _of_decision(decision: Decision) -> Iterator[_Point]:
    for variant, verdicts in decision.gate.items():
        for verdict in verdicts:
            yield from _of_gate(verdict, variant)
    for use in decision.uses:
        for choice in use.choices:
            yield _Point(
                "chosen",
                use.chosen is choice,
                model=choice.variant,
                cell=choice.cell,
                workload=choice.workload,
                use=_USES[use.style],
                verdict=choice.action,
            )


def _of_gate(verdict: GateVerdict, variant: str) -> Iterator[_Point]:
    of: dict[str, Any] = {"model": variant, "use": verdict.use, "n": verdict.n, "n_of": "items"}
    yield _Point(
        "gate_loss", verdict.loss, low=verdict.low, high=verdict.high, confidence=0.90, verdict=verdict.status, **of
    )
    yield _Point("gate_margin", verdict.margin, **of)
    optional = {
        "gate_smallest_loss": verdict.smallest_loss, "gate_floor": verdict.floor, "gate_items_needed": verdict.needed
    }  # fmt: skip
    yield from (_Point(name, value, **of) for name, value in optional.items() if value is not None)
