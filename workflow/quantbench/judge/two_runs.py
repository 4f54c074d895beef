"""Two runs compared: the ratio new / old per model and cell, with the start of a server as the unit where it is known.

Nothing pairs the blocks of two runs, and those of one start are not independent of each other: what a restart changes
is in all of them alike. A run's value is the mean of its starts' means. From two degrees of freedom between starts on
(two starts in each run, or one and three) the interval is Student's t over starts, with one variance for both runs, as
a run of one start has none of its own; or Welch's t over blocks where that is wider. With fewer, nothing in the runs
tells a restart from a change: then there is no verdict, unless the caller knows by how much an unchanged server differs
from run to run (`run_spread`), which is added. What the machine was on the one day and on the other is a draw of its
own, in no interval but by that spread: each decision tells how much of it would undo it. The change of variant /
baseline, each ratio paired inside of its run, is free of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from msgspec.structs import replace as but

from quantbench.judge.drift import drift_of
from quantbench.judge.pairing import BlockKey, Pairs, Samples, pair_up
from quantbench.judge.pooled import MIN_BLOCK, log_quantile, order_half_width
from quantbench.judge.run_differences import absent, differences, joined
from quantbench.judge.starts import Layout, layout, logs_of
from quantbench.judge.verdict import ALPHA, Test, corrected, likely
from quantbench.records import codes
from quantbench.records.block import BlockContext
from quantbench.records.cell import AA_SUFFIX, Cell
from quantbench.records.comparison import Code, InvalidBlock
from quantbench.records.metric import COMPARED, METRICS, SPEED
from quantbench.records.server import Ready
from quantbench.records.two_runs import RunRow, RunSide, TwoRuns
from quantbench.stats import PERCENTILE_NEEDS, RatioCI, holm, percentile, ratio_from_logs, t_quantile, tost

MIN_BLOCKS: Final = 3
"""Blocks of each run, below which there is no interval."""
MIN_FREE: Final = 2
"""Degrees of freedom between starts, below which they carry no interval (t with one is 12.7)."""
GATED: Final = (SPEED, "p95_ttft_ms", "p95_e2e_ms")
"""Metrics that are tested, and decide, where no others are asked for."""
Key = tuple[str, Cell]


@dataclass(frozen=True)
class RunFacts:
    """One run as it was kept. blocks: judged; samples: request values of blocks that are too short for a p95."""

    folder: str
    blocks: Sequence[BlockContext]
    ready: Mapping[str, Ready]
    baseline: str | None = None
    samples: Mapping[BlockKey, Samples] = field(default_factory=dict)

    def cells(self) -> dict[Key, list[BlockContext]]:
        """Blocks by model and cell, without the A/A arm: its server is the baseline's."""
        found: dict[Key, list[BlockContext]] = {}
        for block in self.blocks:
            if not block.arm.endswith(AA_SUFFIX):
                found.setdefault((block.arm, block.cell), []).append(block)
        return found


@dataclass(frozen=True)
class Unpaired:
    """new / old. by_start: the unit of the interval. unknown: what a restart changes is neither seen nor given.

    start_sd: of a log-value, from start to start, less what blocks add to it; None where the runs do not tell.
    """

    ci: RatioCI
    by_start: bool = False
    unknown: bool = False
    start_sd: float | None = None


def unpaired(
    old: Layout,
    new: Layout,
    spread: float | None = None,
    centre: float | None = None,
    tail: float = 0.0,
    confidence: float = 0.95,
) -> Unpaired:
    """The ratio exp(mean new - mean old) of two runs with its CI.

    spread: sd of a run's log-value from run to run of what has not changed, as known from elsewhere. centre: the
    log-ratio, where it is not that of the means; tail: a half-width that the interval has at least.
    """
    sides = (old, new)
    counts = [len(side.sizes) for side in sides]
    free = sum(counts) - 2
    by_start = free >= MIN_FREE
    means = [float(np.mean(side.means if by_start else side.logs)) for side in sides]
    mean, n = means[1] - means[0] if centre is None else centre, len(old.logs) + len(new.logs)
    unknown = not by_start and spread is None
    start_sd = _start_sd(sides) if free > 0 else None
    if min(len(side.logs) for side in sides) < MIN_BLOCKS:
        short = codes.code("test_needs_blocks", n=MIN_BLOCKS)
        return Unpaired(RatioCI(math.exp(mean), None, None, n, None, None, short), by_start, unknown, start_sd)
    units = [_over_blocks(sides)]
    if by_start:
        units.append((math.sqrt(_between(sides) / free * sum(1 / count for count in counts)), free))
    error, df = _wider(units, confidence)
    error = max(error, tail / t_quantile(0.5 + confidence / 2, df))
    if spread and error:  # Satterthwaite, the spread counts as known; never narrower than without it
        whole = error**2 + 2 * spread**2
        error, df = _wider([(error, df), (math.sqrt(whole), df * (whole / error**2) ** 2)], confidence)
    ci = ratio_from_logs(mean, error * math.sqrt(n), n, confidence, df)
    return Unpaired(ci, by_start, unknown, start_sd)


def _wider(units: Iterable[tuple[float, float]], confidence: float) -> tuple[float, float]:
    """Of several (standard error, degrees of freedom) that whose t interval is the widest."""
    return max(units, key=lambda unit: unit[0] * t_quantile(0.5 + confidence / 2, unit[1]))


def _over_blocks(sides: Sequence[Layout]) -> tuple[float, float]:
    """Welch's standard error of the difference of two means of blocks, and its degrees of freedom (Satterthwaite)."""
    parts = [(float(np.var(side.logs, ddof=1)) / len(side.logs), len(side.logs) - 1) for side in sides]
    whole, noise = sum(part for part, _ in parts), sum(part**2 / df for part, df in parts)
    return math.sqrt(whole), whole**2 / noise if noise else float(sum(df for _, df in parts))


def _between(sides: Iterable[Layout]) -> float:
    """Sum of squares of the starts' means around the mean of their run."""
    return sum(float(((np.asarray(side.means) - np.mean(side.means)) ** 2).sum()) for side in sides)


def _start_sd(sides: Sequence[Layout]) -> float | None:
    """sd from start to start: the variance of the starts' means less the share of blocks in it, 0 at least."""
    several = [side for side in sides if len(side.sizes) > 1]
    within = [side.mean_squares[1] for side in several]
    if not several or any(square is None for square in within):
        return None
    free = sum(len(side.sizes) - 1 for side in several)
    blocks = [
        (square or 0.0) * float(np.mean([1 / n for n in s.sizes])) for s, square in zip(several, within, strict=True)
    ]
    shares = sum(block * (len(s.sizes) - 1) for block, s in zip(blocks, several, strict=True))
    return math.sqrt(max(0.0, (_between(several) - shares) / free))


@dataclass(frozen=True)
class Seen:
    """One metric of both runs, before it is tested; found: None where a run does not give it, `reasons` say why.

    starts: of the servers, 0 where blocks do not tell. values: of each run, in the metric's unit or as a ratio.
    """

    found: Unpaired | None = None
    values: tuple[float | None, float | None] = (None, None)
    n: tuple[int, int] = (0, 0)
    starts: tuple[int, int] = (0, 0)
    reasons: tuple[str, ...] = ()


def compare_runs(
    old: RunFacts,
    new: RunFacts,
    *,
    margin: float = 0.03,
    metrics: Sequence[str] = GATED,
    run_spread: float | None = None,
    varies: Sequence[str] = (),
    subset: bool = False,
) -> TwoRuns:
    """What differs, and a row per model, cell and metric that both runs have; then those of variant / baseline.

    margin: within 1 / (1 + margin) … 1 + margin a ratio does not matter. metrics: those that are tested; the others
    are described. run_spread: sd of a run's log-value from run to run of what has not changed; None where that is not
    known. varies: what is expected to differ, names of `run_differences`. subset: whether the new run may lack
    cells of the old one.
    """
    cells = old.cells(), new.cells()
    both = [key for key in cells[0] if key in cells[1]]
    found = {key: differences(cells[0][key], cells[1][key], old.ready, new.ready, varies) for key in both}
    blockers = {key: tuple(d.key for d in found[key] if d.refuses) for key in both}
    rows: list[tuple[RunRow, Unpaired | None]] = []
    for key, metric in ((key, metric) for key in both for metric in COMPARED):
        a, b = (of[key] for of in cells)
        seen = of_model(_valid(a), _valid(b), metric, (old.samples, new.samples), run_spread)
        seen = seen if seen.found else replace(seen, n=(len(_valid(a)), len(_valid(b))))
        rows.append(_row(key, metric, seen, margin, blockers[key], _refused(a, b), run_spread))
    for base, key in _variants(old, new, both):
        for metric in metrics:
            pairs = [pair_up(of[base], of[key]) for of in cells]
            either = tuple(dict.fromkeys((*blockers[base], *blockers[key])))
            seen = _of_pairs(pairs, metric, run_spread)
            refused = tuple(
                but(i, model=f"{s} {i.model}") for s, p in zip(_SIDES, pairs, strict=True) for i in p.invalid
            )
            row, ratio = _row(key, metric, seen, margin, either, refused, run_spread)
            rows.append((but(row, baseline=base[0]), ratio))
    judged = _tested(rows, metrics)
    return TwoRuns(
        old=_side(old),
        new=_side(new),
        margin=margin,
        run_spread=run_spread,
        varies=tuple(varies),
        subset=subset,
        absent=absent(varies, (difference for some in found.values() for difference in some)),
        differences=joined(found),
        rows=tuple(row for row in judged if row.code == "described" or _asked(row, metrics)),
        only_old=tuple(f"{model} {cell.key}" for model, cell in cells[0] if (model, cell) not in cells[1]),
        only_new=tuple(f"{model} {cell.key}" for model, cell in cells[1] if (model, cell) not in cells[0]),
    )


_SIDES: Final = ("old", "new")


def _asked(row: RunRow, metrics: Sequence[str]) -> bool:
    """Whether a row is shown without a test too; of a change that cannot be had, its models' own rows say why."""
    return row.metric in metrics and (row.baseline is None or row.ratio is not None)


def _valid(blocks: Iterable[BlockContext]) -> list[BlockContext]:
    return [block for block in blocks if block.valid]


def _refused(a: Iterable[BlockContext], b: Iterable[BlockContext]) -> tuple[InvalidBlock, ...]:
    """Invalid blocks, each named with its run."""
    sides = zip(_SIDES, (a, b), strict=True)
    faulty = ((side, block) for side, blocks in sides for block in blocks if not block.valid)
    return tuple(InvalidBlock(model=f"{side} {x.arm}", block=x.block, guards=x.reasons) for side, x in faulty)


def _variants(old: RunFacts, new: RunFacts, both: Sequence[Key]) -> Iterator[tuple[Key, Key]]:
    """(baseline, variant) of each cell in which both runs have both; none where the runs' baselines differ."""
    if old.baseline and old.baseline == new.baseline:
        for model, cell in both:
            if model != old.baseline and (old.baseline, cell) in both:
                yield (old.baseline, cell), (model, cell)


def of_model(
    a: Sequence[BlockContext],
    b: Sequence[BlockContext],
    metric: str,
    samples: Sequence[Mapping[BlockKey, Samples]],
    spread: float | None,
) -> Seen:
    """A metric of one model's valid blocks, old (a) and new (b); samples: of each run.

    p95s of blocks that are too short for one are pooled, as those of pairs are.
    """
    arms = (a, b)
    values: list[list[Any]] = [[block.metrics.get(metric) for block in arm] for arm in arms]
    if METRICS[metric].q == 95 and any(None in of for of in values):
        return _pooled(arms, metric, samples, spread)
    known = [
        [(block, v) for block, v in zip(arm, of, strict=True) if v is not None]
        for arm, of in zip(arms, values, strict=True)
    ]
    if not all(known):
        return Seen(reasons=(codes.code("not_measured" if all(arms) else "no_values"),))
    if not all(0 < v < math.inf for of in known for _, v in of):
        return Seen(reasons=(codes.code("not_positive"),))
    draws = [_layout([math.log(v) for _, v in of], [block.server.instance for block, _ in of]) for of in known]
    return _seen(draws, spread)


def _pooled(
    arms: Sequence[Sequence[BlockContext]],
    metric: str,
    samples: Sequence[Mapping[BlockKey, Samples]],
    spread: float | None,
) -> Seen:
    """The ratio of the pooled percentiles: spread by each block's own percentile, and at least as wide as their order
    statistics have it (`judge.pooled`)."""
    name, q = f"{METRICS[metric].time}_ms", METRICS[metric].q
    pools = [
        [of.get((block.arm, block.cell, block.block), {}).get(name, ()) for block in arm]
        for arm, of in zip(arms, samples, strict=True)
    ]
    flat = [[x for block in pool for x in block] for pool in pools]
    if not all(flat):
        return Seen(reasons=(codes.code("not_measured"),))
    if min(map(len, flat)) < PERCENTILE_NEEDS[q]:
        return Seen(reasons=(codes.code("percentile_needs", q=q, n=PERCENTILE_NEEDS[q]),))
    if min(len(block) for pool in pools for block in pool) < MIN_BLOCK:
        return Seen(reasons=(codes.code("block_needs", n=MIN_BLOCK),))
    tail = order_half_width(flat[0], flat[1], q, 1 - ALPHA)
    if tail is None:
        return Seen(reasons=(codes.code("pooled_ci_needs_more", q=q),))
    draws = [
        _layout([log_quantile(block, q) for block in pool], [block.server.instance for block in arm])
        for pool, arm in zip(pools, arms, strict=True)
    ]
    centre = log_quantile(flat[1], q) - log_quantile(flat[0], q)
    seen = _seen(draws, spread, centre, tail)
    values = (percentile(flat[0], q).value, percentile(flat[1], q).value)
    return replace(seen, values=values, reasons=(codes.code("p95_pooled"), *seen.reasons))


def _of_pairs(pairs: Sequence[Pairs], metric: str, spread: float | None) -> Seen:
    """variant / baseline of each run, over its pairs.

    A spread of runs is mostly what both models share, and cancels; where starts are not known it bounds what restarts
    of two servers add.
    """
    draws = []
    for one in pairs:
        if METRICS[metric].q == 95 and any(x.metrics.get(metric) is None for x in (*one.a, *one.b)):
            return Seen(reasons=(codes.code("percentile_needs", q=95, n=PERCENTILE_NEEDS[95]),))
        logs = [(log, n) for n, log in enumerate(logs_of(one, metric)) if log is not None]
        if not logs:
            return Seen(reasons=(codes.code("not_measured" if len(one) else "no_pairs"),))
        told = layout(one, metric)
        draws.append((told, True) if told else (Layout(tuple(log for log, _ in logs), (0,) * len(logs)), False))
    known = sum(len(one.sizes) for one, _ in draws) - 2 >= MIN_FREE
    return _seen(draws, None if spread is None or known else math.sqrt(2) * spread)


def _layout(logs: Sequence[float], instances: Sequence[float | None]) -> tuple[Layout, bool]:
    """The values by the starts of their server, and whether blocks tell these; if not, they count as one."""
    if None in instances:
        return Layout(tuple(logs), (0,) * len(logs)), False
    order = list(dict.fromkeys(instances))
    return Layout(tuple(logs), tuple(map(order.index, instances))), True


def _seen(
    draws: Sequence[tuple[Layout, bool]], spread: float | None, centre: float | None = None, tail: float = 0.0
) -> Seen:
    (old, _), (new, _) = draws
    found = unpaired(old, new, spread, centre, tail)
    reasons = [found.ci.reason] if found.ci.reason else []
    if found.by_start:
        reasons.append(codes.code("start_is_unit", n=len(old.sizes) + len(new.sizes)))
    if found.unknown:
        reasons.append(codes.code("start_spread_unknown"))
    if spread:
        reasons.append(codes.code("run_spread_given"))
    if not all(told for _, told in draws):
        reasons.append(codes.code("starts_not_told"))
    means = [math.exp(float(np.mean(one.means if found.by_start else one.logs))) for one in (old, new)]
    starts = [len(one.sizes) if told else 0 for one, told in draws]
    return Seen(found, (means[0], means[1]), (len(old.logs), len(new.logs)), (starts[0], starts[1]), tuple(reasons))


def _row(
    key: Key,
    metric: str,
    seen: Seen,
    margin: float,
    blockers: tuple[str, ...],
    invalid: tuple[InvalidBlock, ...],
    run_spread: float | None,
) -> tuple[RunRow, Unpaired | None]:
    """A row that is not tested yet; one that is refused carries no figures."""
    model, cell = key
    refused = blockers or (invalid and min(seen.n) < MIN_BLOCKS)
    row = RunRow(
        **cell.columns,
        model=model,
        metric=metric,
        margin=margin,
        code="invalid" if refused else "no_test",
        n_old=seen.n[0],
        n_new=seen.n[1],
        starts_old=seen.starts[0],
        starts_new=seen.starts[1],
        blockers=blockers,
        invalid_blocks=invalid,
        reasons=(*blockers, *map(_refusal, invalid), *(() if refused else seen.reasons)),
    )
    found = None if refused else seen.found
    if found is None:
        return row, None
    filled = but(
        row,
        old_value=seen.values[0],
        new_value=seen.values[1],
        ratio=found.ci.ratio,
        ci_low=found.ci.low,
        ci_high=found.ci.high,
        unit="start" if found.by_start else "block",
        start_sd=found.start_sd,
        run_spread=run_spread,
    )
    return filled, found


def _refusal(block: InvalidBlock) -> str:
    return f"{', '.join(block.guards) or 'invalid'} ({block.model} block {block.block})"


def _tested(rows: Sequence[tuple[RunRow, Unpaired | None]], metrics: Sequence[str]) -> list[RunRow]:
    """The rows with their codes: difference and equivalence, Holm-corrected within model, workload and metric.

    The changes of variant / baseline are families of their own. The outcome asks one question more, whether anything is
    worse: for it all rows that decide are one family.
    """
    fit = [found.ci if found and not found.unknown and row.metric in metrics else None for row, found in rows]
    difference = [ci.p_value if ci else None for ci in fit]
    equivalence = [tost(ci, row.margin) if ci else None for ci, (row, _) in zip(fit, rows, strict=True)]
    families = [(row.baseline, row.model, row.workload, row.metric) for row, _ in rows]
    tests = corrected(difference, equivalence, families)
    decided = [_decided(row, found, test, metrics) for (row, found), test in zip(rows, tests, strict=True)]
    of_run = holm([_of_worse(row) if row.gated else None for row in decided])
    return [
        but(row, p_run=p, fails=row.code == "worse" and p is not None and p < ALPHA)
        for row, p in zip(decided, of_run, strict=True)
    ]


def _of_worse(row: RunRow) -> float | None:
    """One-sided p of a row's being worse."""
    if row.p_value is None or row.ratio is None:
        return None
    half = row.p_value / 2
    return 1 - half if METRICS[row.metric].is_better(row.ratio) else half


def _decided(row: RunRow, found: Unpaired | None, test: Test, metrics: Sequence[str]) -> RunRow:
    if found is None or row.ratio is None or row.ci_low is None:
        return row
    if row.metric not in metrics:
        return but(row, code="described")
    code: Code = "undecided"
    if test.alike:
        code = "equivalent"
    elif test.difference is not None and test.difference < ALPHA:
        code = "better" if METRICS[row.metric].is_better(row.ratio) else "worse"
    done = but(
        row,
        code=code,
        p_value=None if found.unknown else found.ci.p_value,
        p_holm=test.difference,
        p_equivalence=test.alone,
        family=test.family,
    )
    return but(done, likely=likely(done) if code == "undecided" else None, undone_by=_undone_by(done))


def _undone_by(row: RunRow) -> float | None:
    """The drift of the machine between the runs, as a ratio, that a decision would not survive; None for the change of
    a ratio, of which drift is no part."""
    if row.baseline is not None or row.ci_low is None or row.ci_high is None or not row.decided:
        return None
    ends = [abs(math.log(row.ci_low)), abs(math.log(row.ci_high))]
    room = math.log1p(row.margin) - max(ends) if row.code == "equivalent" else min(ends)
    return math.exp(max(0.0, room)) if row.code == "equivalent" or row.excludes_one else 1.0


def _side(run: RunFacts) -> RunSide:
    blocks = sorted((block for some in run.cells().values() for block in some), key=lambda block: block.started_unix)
    names = (", ".join(block.hardware.names) for block in blocks if block.hardware)
    trends = [(drift_of(cell, some), f"{model} {cell.key}") for (model, cell), some in run.cells().items()]
    seen = [(trend.percent, of) for trend, of in trends if trend and trend.flagged and trend.percent is not None]
    most, where = max(seen, key=lambda pair: abs(pair[0]), default=(None, ""))
    return RunSide(
        folder=run.folder,
        devices=tuple(dict.fromkeys(names)),
        vllm=tuple(dict.fromkeys(ready.versions.vllm for ready in run.ready.values() if ready.versions.vllm)),
        models=tuple(dict.fromkeys(block.arm for block in blocks)),
        first_block_at=blocks[0].started_at if blocks else "",
        last_block_at=blocks[-1].started_at if blocks else "",
        blocks=len(blocks),
        blocks_invalid=sum(not block.valid for block in blocks),
        drift_pct=most,
        drift_of=where,
    )


def shared_blocks(old: RunFacts, new: RunFacts) -> int:
    """Blocks that both have: of a copy, or of a run that went on in one."""
    a, b = ({(x.arm, x.cell, x.block, x.started_unix) for x in run.blocks} for run in (old, new))
    return len(a & b)
