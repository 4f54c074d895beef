"""The table of ratios of one workload, with footnotes that name the rows they are about. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from quantbench.report.document import Table, table
from quantbench.report.facts import Facts, Json
from quantbench.report.narrative_words import CI_NOTE, blocks_to_decide, short_cell, verdict_cell
from quantbench.wording import (
    integer,
    is_number,
    listing,
    metric_name,
    percent,
    ratio_interval,
    reason_codes,
    reason_list,
    sentence,
)

COMPARED = {
    "interactive": ("throughput_tok_s", "p95_ttft_ms", "p95_e2e_ms"),
    "batch": ("throughput_tok_s", "p95_e2e_ms"),
}


def ratio_table(facts: Facts, workload: str) -> Table:
    """Ratios with CI, a row per cell and variant; where a p95 is missing, the p50 stands beside it."""
    metrics = compared_metrics(facts, workload)
    rows: list[list[str]] = []
    shown: list[list[Json]] = []
    for cell in facts.cells(workload):
        for variant in facts.variants:
            found = [facts.row(workload, variant, cell, metric) for metric in metrics]
            told = [row for row in found if row]
            if not told:
                continue
            cells = [ratio_interval(row) if row else "" for row in found]
            pairs = integer(told[0]["n_pairs"])
            rows.append([*map(str, cell), facts.label(variant), *cells, verdict_cell(facts, found[0]), pairs])
            shown.append(told)
    columns = ["concurrency", "max_tokens", "model", *(metric_name(m) for m in metrics), "tokens/sec verdict", "pairs"]
    return table(
        columns,
        rows,
        caption=f"Ratios to {facts.label(facts.baseline)}, {workload}",
        notes=[CI_NOTE, *_undecided(facts, shown), *footnotes(facts, shown), *_order(facts, shown)],
        words=(2, len(metrics) + 3),
    )


def compared_metrics(facts: Facts, workload: str) -> list[str]:
    """The metrics of the ratio table; p50 joins where some cell has no p95."""
    chosen: list[str] = []
    for metric in COMPARED[facts.config["workloads"][workload]["style"]]:
        rows = list(facts.compared(workload, metric=metric))
        if metric.startswith("p95_") and not all(is_number(row["ratio"]) for row in rows):
            chosen.append(metric.replace("p95_", "p50_"))
            if not any(is_number(row["ratio"]) for row in rows):
                continue
        chosen.append(metric)
    return chosen


def footnotes(facts: Facts, shown: Sequence[Sequence[Json]]) -> list[str]:
    """One note per reason code: "p95 TTFT and p95 E2E of INT8 at c=1: a p95 needs …".

    shown: the comparison rows of each table row. A reason that all of them have is told of the whole table row.
    """
    metrics: dict[str, dict[str, list[Json]]] = {}  # words → metrics that share it → one row per place
    for told in shown:
        by_words: dict[str, list[Json]] = {}
        for row in told:
            for words in _reasons(facts, row):
                by_words.setdefault(words, []).append(row)
        for words, rows in by_words.items():
            names = "" if len(rows) == len(told) else listing(metric_name(row["metric"]) for row in rows)
            metrics.setdefault(words, {}).setdefault(names, []).append(rows[0])
    return [
        sentence(f"{'; '.join(_of(facts, names, rows) for names, rows in groups.items())}: {words}")
        for words, groups in metrics.items()
    ]


def _reasons(facts: Facts, row: Json) -> list[str]:
    return reason_list(reason_codes(row.get("reasons")), facts.config.get("reason_words"))


def _of(facts: Facts, metrics: str, rows: Sequence[Json]) -> str:
    return f"{metrics} of {places(facts, rows)}" if metrics else places(facts, rows)


def places(facts: Facts, rows: Iterable[Json]) -> str:
    """ "INT8 and INT4 at c=1 and c=8; FP8 at c=1", each variant and cell once."""
    kept = list(rows)
    cells: dict[str, dict[str, None]] = {}
    for row in kept:
        cells.setdefault(facts.label(row["variant"]), {})[short_cell(row, kept)] = None
    variants: dict[tuple[str, ...], list[str]] = {}
    for label, found in cells.items():
        variants.setdefault(tuple(found), []).append(label)
    return "; ".join(f"{listing(labels)} at {listing(found)}" for found, labels in variants.items())


def _undecided(facts: Facts, shown: Sequence[Sequence[Json]]) -> list[str]:
    """What more blocks would do for the verdict column, told once: its cells name only numbers of blocks."""
    rows = [told[0] for told in shown if told[0]["code"] == "undecided"]
    far = [row for row in rows if blocks_to_decide(facts, row) is None]
    if not far:
        return []
    margin = percent(max(row["margin"] for row in far))
    most = f"more than {facts.most_blocks} blocks in all"
    words = f"{most} would be needed to resolve {margin}: reduce the noise instead"
    return [sentence(f"{places(facts, far)}: {words}")]


def _order(facts: Facts, shown: Sequence[Sequence[Json]]) -> list[str]:
    mixed = [
        told[0]
        for told in shown
        if told[0]["valid"]
        and told[0]["n_pairs"] > 1
        and not told[0]["interleaved"]
        and "DIFFERENT_DEVICES" not in reason_codes(told[0]["reasons"])
    ]
    return (
        [sentence(f"{places(facts, mixed)}: the blocks were not interleaved, so drift is not excluded")]
        if mixed
        else []
    )
