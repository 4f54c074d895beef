"""Rows of the export as OpenMetrics text (format 1.0): gauges alone, in base units, the unit last in their names.

What is pooled and sound is there; blank and invalid figures and single blocks are not. Without timestamps the text is
of the older Prometheus format too, which is what node_exporter's textfile collector and the Pushgateway take: both
refuse timestamps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from quantbench.errors import QuantbenchError
from quantbench.export.figures import FIGURES, UNITS, Figure
from quantbench.records.export import ExportRow

CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
LABELS: Final = ("run", "gpu", "model", "workload", "concurrency", "max_tokens", "suite", "use")
"""Columns that are labels of every gauge, where a row has them."""
_RUN_INFO: Final = ("fleet", "comparison", "gpu_name", "baseline", "vllm", "hardware", "tool")
_MODEL_INFO: Final = ("label", "source", "quantization", "vllm", "hardware")


class Family(NamedTuple):
    """The head of a gauge: its base unit may be empty."""

    name: str
    unit: str
    help: str


RUN_INFO: Final = Family("quantbench_run_info", "", "1; what identifies a run")
MODEL_INFO: Final = Family("quantbench_model_info", "", "1; what identifies a model of a run")
MEASURED: Final = Family("quantbench_measured_timestamp_seconds", "seconds", "when the last block of a run was begun")
VALID: Final = Family(
    "quantbench_cell_valid", "", "1 if every block of a model's tuple is valid; else its figures are left out"
)
VERDICT: Final = Family("quantbench_verdict", "", "1; what is concluded of the metric `of`, among it: invalid")
OTHERS: Final = (RUN_INFO, MODEL_INFO, MEASURED, VALID, VERDICT)
"""Gauges beside those of `FIGURES`."""
_LIMITS: Final = (("_ci_low", "ci_low", "lower"), ("_ci_high", "ci_high", "upper"))

Labels = tuple[tuple[str, str], ...]


def text(rows: Iterable[ExportRow], *, timestamps: bool = False) -> str:
    """The exposition. timestamps: each sample carries when its run was measured (s), to be backfilled.

    Raises QuantbenchError if two rows would be one sample.
    """
    families: dict[Family, dict[Labels, tuple[float, float | None]]] = {}
    for row in rows:
        moment = row.measured_at.timestamp() if timestamps and row.measured_at else None
        for family, labels, value in _samples(row):
            known = families.setdefault(family, {})
            if labels in known and known[labels][0] != value:
                raise QuantbenchError(
                    f"two figures for {family.name}{_in_braces(labels)}", remedy="name each results folder once"
                )
            known[labels] = value, moment
    return "".join(_lines(families))


def _samples(row: ExportRow) -> Iterator[tuple[Family, Labels, float]]:
    """The samples of a row. Those of its run and model are told again and again, and are the same."""
    if row.block is not None:
        return
    labels = _labels(row, LABELS)
    yield RUN_INFO, (*_labels(row, ("run", "gpu")), *_labels_of_run(row)), 1
    if row.measured_at:
        yield MEASURED, _labels(row, ("run", "gpu")), row.measured_at.timestamp()
    if row.model and row.source is not None:
        yield MODEL_INFO, (*_labels(row, ("run", "gpu", "model")), *_labels(row, _MODEL_INFO)), 1
    if row.metric == "blocks" and row.valid is not None:
        yield VALID, labels, float(row.valid)
    figure, of = _figure_of(row.metric)
    if row.verdict and row.metric not in ("compute_share", "bandwidth_share"):
        yield VERDICT, (*labels, ("of", row.metric), ("verdict", row.verdict)), 1
    if row.valid is False:
        return
    own = (*labels, *((("of", of),) if of else ()), *((("currency", row.unit),) if figure.unit == "currency" else ()))
    unit = UNITS[figure.unit].base
    if row.value is not None:
        yield Family(figure.gauge(), unit, figure.meaning), own, figure.in_base_unit(row.value)
    for part, column, side in _LIMITS:
        if (limit := getattr(row, column)) is not None:
            meaning = f"{side} limit of the interval of {figure.gauge()}"
            yield Family(figure.gauge(part), unit, meaning), own, figure.in_base_unit(limit)


def _labels_of_run(row: ExportRow) -> Labels:
    """vLLM and hardware are of a run only where no model has others."""
    return _labels(row, [name for name in _RUN_INFO if name not in ("vllm", "hardware")])


def _labels(row: ExportRow, names: Iterable[str]) -> Labels:
    values = ((name, getattr(row, name)) for name in names)
    return tuple((name, str(value)) for name, value in values if value is not None)


def _figure_of(metric: str) -> tuple[Figure, str]:
    """The entry of a row's metric, and the metric that it is about."""
    if metric in FIGURES:
        return FIGURES[metric], ""
    starts = ((name.removesuffix("{of}"), figure) for name, figure in FIGURES.items() if name.endswith("{of}"))
    start, figure = next((start, figure) for start, figure in starts if metric.startswith(start))
    return figure, metric.removeprefix(start)


def _lines(families: Mapping[Family, Mapping[Labels, tuple[float, float | None]]]) -> Iterator[str]:
    """Families in the order of their names, none in two pieces."""
    for family, samples in sorted(families.items()):
        yield f"# TYPE {family.name} gauge\n"
        if family.unit:
            yield f"# UNIT {family.name} {family.unit}\n"
        yield f"# HELP {family.name} {_escaped(family.help)}\n"
        for labels, (value, moment) in samples.items():
            when = "" if moment is None else f" {moment:.3f}"
            yield f"{family.name}{_in_braces(labels)} {_number(value)}{when}\n"
    yield "# EOF\n"


def _in_braces(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(float(value))
