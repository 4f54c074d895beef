"""What differs between two starts of a server: components of variance, and intervals whose unit is the start.

Blocks repeat the load, not the start. Pairs of blocks are grouped by the servers that answered them, and the log-ratios
analysed as a one-way layout (Searle, Casella & McCulloch 1992, 3.6): d = mean + start + block. Three or more starts,
asked for beforehand, make the start the unit: t with one degree of freedom less than starts. Two do not carry such an
interval (t with 1 degree of freedom is 12.7), and all cells share the same starts, so that they add no start: what
differs is told, tested, and a doubt; the interval stays one of these starts. A start is a time too: what the machine
did between the first and the second half of a run is part of the difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from msgspec.structs import replace as but

from quantbench.judge.pairing import Estimate, Pairs
from quantbench.records import codes
from quantbench.records.block import BlockContext
from quantbench.records.cell import Cell
from quantbench.records.comparison import StartEffect, Verdict
from quantbench.records.finding import Finding, finding
from quantbench.records.metric import COMPARED, METRICS, PER_GPU, SPEED
from quantbench.stats import NO_SPREAD, RatioCI, f_tail, half_width, holm, ratio_from_logs

MIN_STARTS: Final = 3
ALPHA: Final = 0.05


@dataclass(frozen=True)
class Layout:
    """Log-ratios of pairs, each with the group of starts that it is of (0, 1, …)."""

    logs: tuple[float, ...]
    groups: tuple[int, ...]

    @property
    def sizes(self) -> list[int]:
        """Pairs of each group."""
        return [self.groups.count(group) for group in sorted(set(self.groups))]

    @property
    def means(self) -> list[float]:
        """Mean log-ratio of each group."""
        grouped = [[x for x, g in zip(self.logs, self.groups, strict=True) if g == group] for group in set(self.groups)]
        return [float(np.mean(logs)) for logs in grouped]

    @property
    def mean_squares(self) -> tuple[float, float | None]:
        """Between starts (of two or more) and within one; the latter is None where no start has two pairs."""
        logs, sizes = np.asarray(self.logs), self.sizes
        of_group = dict(zip(sorted(set(self.groups)), self.means, strict=True))
        own = np.asarray([of_group[group] for group in self.groups])
        free = len(logs) - len(sizes)
        between = float(((own - logs.mean()) ** 2).sum()) / (len(sizes) - 1)
        return between, float(((logs - own) ** 2).sum()) / free if free else None


def layout(pairs: Pairs, metric: str) -> Layout | None:
    """The pairs that have the metric, by their starts; None where there is none, or a block does not tell its server.

    Pairs that share a server on either side are of one group: a start that both have is no second draw.
    """
    logs = logs_of(pairs, SPEED if metric == PER_GPU else metric)  # which differs by a constant
    of_pair = [(x.server.instance, y.server.instance) for x, y in zip(pairs.a, pairs.b, strict=True)]
    known = [(number, log) for number, log in enumerate(logs) if log is not None]
    if not known or any(None in of_pair[number] for number, _ in known):
        return None
    return Layout(tuple(log for _, log in known), tuple(_groups([of_pair[number] for number, _ in known])))


def _groups(of_pair: Sequence[tuple[float | None, float | None]]) -> list[int]:
    """The group of each (server of the baseline, server of the variant)."""
    groups = list(range(len(of_pair)))
    for i, (a, b) in enumerate(of_pair):
        for j in range(i):
            if a == of_pair[j][0] or b == of_pair[j][1]:
                merged = {groups[i], groups[j]}
                groups = [min(merged) if group in merged else group for group in groups]
    return [sorted(set(groups)).index(group) for group in groups]


def logs_of(pairs: Pairs, metric: str) -> list[float | None]:
    """ln(variant / baseline) of each pair; of a p95 that not all blocks have, of what their own requests give."""
    values = [(x.metrics.get(metric), y.metrics.get(metric)) for x, y in zip(pairs.a, pairs.b, strict=True)]
    if METRICS[metric].q == 95 and any(None in pair for pair in values):
        arms = zip(pairs.a, pairs.b, strict=True)
        values = [(_tail(pairs, x, metric), _tail(pairs, y, metric)) for x, y in arms]
    return [math.log(b / a) if a and b and 0 < a < math.inf and 0 < b < math.inf else None for a, b in values]


def _tail(pairs: Pairs, block: BlockContext, metric: str) -> float | None:
    values = pairs.samples.get((block.arm, block.cell, block.block), {}).get(f"{METRICS[metric].time}_ms", ())
    return float(np.quantile(np.asarray(values, dtype=float), 0.95)) if len(values) else None


def widened(estimate: Estimate, pairs: Pairs, metric: str, starts: int) -> Estimate:
    """The estimate with the start as the unit of its interval, where that is the wider one.

    Only where `starts`, as the plan wants them, are three or more, and as many were measured: which unit an interval
    has is not chosen after a look at the data. A remark tells it.
    """
    found = layout(pairs, metric) if starts >= MIN_STARTS else None
    if found is None or estimate.ci.ratio is None or len(found.logs) != estimate.ci.n or len(found.sizes) < MIN_STARTS:
        return estimate
    ci = over_starts(found, math.log(estimate.ci.ratio))
    width, other = half_width(estimate.ci.low, estimate.ci.high), half_width(ci.low, ci.high)
    if width is None or other is None or other <= width:
        return estimate
    remark = codes.code("start_is_unit", n=len(found.sizes))
    return replace(estimate, ci=ci, remarks=(*estimate.remarks, remark))


def over_starts(found: Layout, mean: float | None = None) -> RatioCI:
    """The ratio with an interval of which the start is the unit: exact where all starts have as many pairs, else wider.

    The variance of the mean of all pairs is q between + within / N (q: sum of the squared shares of the starts), which
    is at most q (k - 1) / (1 - q) times the mean square between k starts, over N. mean: default that of the pairs.
    """
    n, k = len(found.logs), len(found.sizes)
    q = sum((size / n) ** 2 for size in found.sizes)
    sd = math.sqrt(q * (k - 1) / (1 - q) * found.mean_squares[0])
    return ratio_from_logs(float(np.mean(found.logs)) if mean is None else mean, sd, n, df=k - 1)


def effects(variant: str, pairs_of: Mapping[Cell, Pairs]) -> Iterator[StartEffect]:
    """What differs between starts, per cell and metric of one variant; p-values are corrected over the cells."""
    for metric in COMPARED:
        found = {cell: layout(pairs, metric) for cell, pairs in pairs_of.items()}
        rows = [_effect(variant, cell, metric, one) for cell, one in found.items() if one]
        for row, p in zip(rows, holm([row.p_value for row in rows]), strict=True):
            yield but(row, p_holm=p, differs=p is not None and p < ALPHA)


def _effect(variant: str, cell: Cell, metric: str, found: Layout) -> StartEffect:
    n, sizes = len(found.logs), found.sizes
    row = StartEffect(**cell.columns, variant=variant, metric=metric, starts=len(sizes), n_pairs=n)
    if len(sizes) < 2:
        return row
    between, within = found.mean_squares
    row = but(row, difference=math.expm1(max(found.means) - min(found.means)))
    if within is None or within < NO_SPREAD**2:
        return row
    typical = (n - sum(size**2 for size in sizes) / n) / (len(sizes) - 1)
    p_value = f_tail(between / within, len(sizes) - 1, n - len(sizes))
    return but(row, between=(between - within) / typical, within=within, p_value=p_value)


def unseen(verdict: Verdict) -> list[StartEffect]:
    """Effects on speed that no interval has in it: starts differ by more than their blocks do."""
    inside = {(row.variant, row.cell) for row in verdict.rows if row.metric == SPEED and row.by_start}
    rows = (row for row in verdict.starts if row.metric == SPEED and row.differs)
    return [row for row in rows if (row.variant, row.cell) not in inside]


def doubts(verdict: Verdict) -> Iterator[Finding]:
    """One start measured; starts that differ, where the interval does not have it."""
    rows = [row for row in verdict.starts if row.metric == SPEED]
    if single := sum(row.starts == 1 for row in rows):
        yield finding("doubts.one_start", form="all" if single == len(rows) else "some", n=single, total=len(rows))
    found = unseen(verdict)
    for variant in dict.fromkeys(row.variant for row in found):
        own = [row for row in found if row.variant == variant]
        most = max(row.difference or 0.0 for row in own)
        yield finding("doubts.starts_differ", variant=variant, n=len(own), by=most, starts=max(r.starts for r in own))


def scatter(verdict: Verdict) -> Iterator[tuple[str, float, float]]:
    """Per variant: sd of a log-ratio of speed between starts and within one, over its cells.

    The variances are averaged over the cells before their roots are taken: unbiased, however alike the cells' starts.
    """
    rows = [row for row in verdict.starts if row.metric == SPEED]
    for variant in dict.fromkeys(row.variant for row in rows):
        known = [row for row in rows if row.variant == variant and row.between is not None and row.within is not None]
        if known:
            yield variant, _root(row.between for row in known), _root(row.within for row in known)


def _root(variances: Iterable[float | None]) -> float:
    return math.sqrt(max(0.0, float(np.mean([variance or 0.0 for variance in variances]))))
