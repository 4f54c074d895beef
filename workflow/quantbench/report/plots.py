"""Charts of the report: altair specifications, drawn to SVG and PNG without a browser or a network.

Inside the page text and lines take the page's colour (`currentColor`), so one drawing serves light and dark;
as files they have a white background.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from quantbench.files import atomic, write_text
from quantbench.records.comparison import Comparison
from quantbench.records.metric import PER_GPU, SPEED
from quantbench.records.run import Run
from quantbench.report.fleet import Pareto
from quantbench.visible import visible

Chart = Any  # altair's chart classes share no typed base
WIDTH = 620
MOST_OF_NAME = 400
"""Width in pixels at which a name is cut."""
BASELINE_COLOR = "#8b929c"
VARIANT_COLORS = ("#2b8fd9", "#e0762f", "#2fa67c", "#b067d8", "#c9a11a")
PARTS = {
    "weights_gib": "weights",
    "kv_cache_gib": "KV cache",
    "activation_peak_gib": "activation peak",
    "cuda_graphs_gib": "CUDA graphs",
    "non_torch_gib": "outside torch",
}
PART_COLORS = ("#2b8fd9", "#9fb8cf", "#e0762f", "#c9a11a", "#8b929c")


def draw_all(run: Run) -> dict[str, Chart]:
    """All charts that the run has data for, by file name."""
    charts = {"throughput_ratio": forest(run), "memory": memory(run), "cost": cost(run)}
    for workload in run.workloads():
        charts[f"throughput_{workload}"] = throughput(run, workload)
        charts[f"latency_{workload}"] = latency(run, workload)
    return {name: chart for name, chart in charts.items() if chart is not None}


def svg_inline(chart: Chart) -> str:
    """SVG for the page: transparent, text in the page's colour."""
    return str(vl_convert.vegalite_to_svg(_themed(chart, "currentColor", "transparent")))


def save(chart: Chart, folder: Path, name: str) -> None:
    """`{name}.svg` and `{name}.png` with a white background, for READMEs."""
    spec = _themed(chart, "#24292f", "white")
    write_text(folder / f"{name}.svg", str(vl_convert.vegalite_to_svg(spec)))
    with atomic(folder / f"{name}.png") as part:
        part.write_bytes(vl_convert.vegalite_to_png(spec, scale=2))


def _themed(chart: Chart, ink: str, background: str) -> dict[str, Any]:
    spec: dict[str, Any] = _visible(chart.to_dict())
    text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 14, "titleFontSize": 14, "titleFontWeight": "normal"}
    spec["background"] = background
    spec["config"] = {
        "font": "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif",
        "view": {"stroke": None},
        "axis": text
        | {"gridColor": ink, "gridOpacity": 0.15, "domainColor": ink, "tickColor": ink, "domainOpacity": 0.4},
        "legend": text | {"orient": "top", "symbolSize": 120, "columns": 4, "columnPadding": 28, "labelLimit": 240},
        "header": text | {"labelFontWeight": "bold"},
        "title": {"color": ink, "subtitleColor": ink, "anchor": "start", "fontSize": 14},
        "rule": {"color": ink},
        "text": {"color": ink, "fontSize": 12},
    }
    return spec


def _visible(spec: Any) -> Any:
    """The specification with all of its texts on one line and visible: some characters make no XML."""
    if isinstance(spec, dict):
        return {key: _visible(value) for key, value in spec.items()}
    if isinstance(spec, list):
        return [_visible(value) for value in spec]
    return " ".join(visible(spec).split()) if isinstance(spec, str) else spec


def _color(run: Run, models: list[str]) -> alt.Color:
    known = dict(zip(run.models, itertools.chain([BASELINE_COLOR], itertools.cycle(VARIANT_COLORS)), strict=False))
    scale = alt.Scale(domain=[run.label(m) for m in models], range=[known[m] for m in models])
    return alt.Color("model:N", scale=scale, title=None)


def _chart(values: list[dict[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=values))


def forest(run: Run) -> Chart | None:
    """Throughput ratio with CI per cell and variant; the band is the margin, filled points are shown differences."""
    order = {name: i for i, name in enumerate(run.workloads())}
    rows = [row for row in run.compared(metric=SPEED) if row.ratio is not None]
    per_gpu = {(row.variant, row.cell): row for row in run.compared(metric=PER_GPU) if row.ratio is not None}
    rows = [per_gpu.get((row.variant, row.cell), row) for row in rows]
    rows.sort(key=lambda row: order.get(row.workload, len(order)))
    if not rows:
        return None
    data = [
        {
            "cell": _cell_name(run, row),
            "model": run.label(row.variant),
            "ratio": row.ratio,
            "low": row.ratio if row.ci_low is None else row.ci_low,
            "high": row.ratio if row.ci_high is None else row.ci_high,
            "shown": row.code in ("better", "worse"),
        }
        for row in rows
    ]
    margin = max(row.margin for row in rows)
    edges = [{"low": 1 / (1 + margin), "high": 1 + margin, "one": 1}]
    title = f"tokens/sec{' per GPU' if per_gpu else ''}, ratio to the baseline (95 % CI)"
    ratio = alt.X(
        "ratio:Q", title=title, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=6, labelFlush=False)
    )
    base = _chart(data).encode(
        y=_names([_cell_name(run, row) for row in rows], "cell"),
        yOffset=alt.YOffset("model:N", sort=[run.label(v) for v in run.variants]),
        color=_color(run, run.variants),
    )
    bars = base.mark_rule(strokeWidth=2.5).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    filled = base.mark_point(size=90, filled=True, opacity=1).transform_filter("datum.shown").encode(x=ratio)
    hollow = base.mark_point(size=90, strokeWidth=2, opacity=1).transform_filter("!datum.shown").encode(x=ratio)
    band = _chart(edges).mark_rect(opacity=0.14, color=BASELINE_COLOR).encode(x="low:Q", x2="high:Q")
    one = _chart(edges).mark_rule(strokeDash=[4, 3]).encode(x="one:Q")
    height = {"step": 20, "for": "offset"}
    return alt.layer(band, one, bars, filled, hollow).properties(width=WIDTH - 200, height=height)


def _cell_name(run: Run, row: Comparison) -> str:
    """ "chat c=16", with max_tokens where a workload has several."""
    several = len(run.lengths(row.workload)) > 1
    return f"{row.workload} {row.cell.load.label}" + (f", {row.max_tokens} tokens" if several else "")


def _names(names: list[str], field: str) -> alt.Y:
    """A vertical axis of names, with room for the longest in any font."""
    unique = list(dict.fromkeys(names))
    extent = min(round(max(map(len, unique)) * 8.8), MOST_OF_NAME)
    axis = alt.Axis(labelLimit=MOST_OF_NAME, minExtent=extent, ticks=False, domain=False)
    return alt.Y(f"{field}:N", sort=unique, title=None, axis=axis)


def _lines(run: Run, workload: str, metrics: dict[str, str]) -> list[dict[str, Any]]:
    """Values of the cells with the fewest max_tokens; those that rest on no valid block are left out."""
    tokens = min(run.lengths(workload), default=None)
    rows = [
        row
        for model in run.models
        for row in run.capacity
        if (row.model, row.workload, row.max_tokens) == (model, workload, tokens) and row.blocks
    ]
    return [
        {"model": run.label(row.model), "concurrency": row.concurrency, "value": value, "panel": panel}
        for row in rows
        for metric, panel in metrics.items()
        if (value := row.number(metric)) is not None
    ]


def _line_chart(run: Run, data: list[dict[str, Any]], title: str, width: int) -> Chart:
    ticks = sorted({entry["concurrency"] for entry in data})
    x = alt.X("concurrency:Q", title="concurrency", scale=alt.Scale(type="log", base=2, nice=False, padding=12))
    x = x.axis(values=ticks, format="d", grid=False)
    y = alt.Y(
        "value:Q", title=title, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5, minExtent=54, titlePadding=8)
    )
    chart = _chart(data).mark_line(point=alt.OverlayMarkDef(size=60), strokeWidth=2)
    return chart.encode(x=x, y=y, color=_color(run, run.models)).properties(width=width, height=220)


def throughput(run: Run, workload: str) -> Chart | None:
    """Tokens per second against concurrency."""
    data = _lines(run, workload, {"throughput_tok_s": "throughput"})
    if len({entry["concurrency"] for entry in data}) < 2:
        return None
    return _line_chart(run, data, "throughput (tok/s)", WIDTH - 60)


def latency(run: Run, workload: str) -> Chart | None:
    """TTFT and E2E against concurrency: the p95 where every cell has one, else the p50."""
    panels = []
    for name in ("ttft_ms", "e2e_ms"):
        tail = _lines(run, workload, {f"p95_{name}": name})
        middle = _lines(run, workload, {f"p50_{name}": name})
        data, which = (tail, "p95") if middle and len(tail) == len(middle) else (middle, "p50")
        if len({entry["concurrency"] for entry in data}) < 2:
            return None
        title = f"{which} {name.removesuffix('_ms').upper()} (ms)"
        panels.append(_line_chart(run, data, title, (WIDTH - 150) // 2))
    return alt.hconcat(*panels, spacing=28)


def memory(run: Run) -> Chart | None:
    """Stacked GiB per model, as far as the log told them; None where that is no weights, as all else is a setting."""
    data = [
        {"model": run.label(row.model), "part": words, "gib": size * row.gpus, "order": i}
        for row in run.memory
        for i, (key, words) in enumerate(PARTS.items())
        if (size := getattr(row, key)) is not None
    ]
    if all(row.weights_gib is None for row in run.memory):
        return None
    several = any(row.gpus > 1 for row in run.memory)
    colors = {words: PART_COLORS[entry["order"]] for entry in data for words in [entry["part"]]}
    colors = {words: colors[words] for words in PARTS.values() if words in colors}
    chart = _chart(data).encode(
        x=alt.X(
            "gib:Q",
            stack="zero",
            title="GiB of all GPUs of a model, as its server reports them"
            if several
            else "GiB, as the server reports them",
        ),
        y=_names([run.label(row.model) for row in run.memory], "model"),
        color=alt.Color("part:N", scale=alt.Scale(domain=[*colors], range=[*colors.values()]), title=None),
        order="order:Q",
    )
    return chart.mark_bar(height=20).properties(width=WIDTH - 120, height={"step": 34})


def cost(run: Run) -> Chart | None:
    """Price per million output tokens, per workload and model; None without a price."""
    data = [
        {"model": run.label(model), "workload": workload, "cost": row.cost_per_1m_tokens}
        for workload in run.workloads()
        for model in run.models
        if (row := run.cost_row(model, run.deciding_cell(workload))) and row.cost_per_1m_tokens is not None
    ]
    if not data or run.cost is None:
        return None
    chart = _chart(data).encode(
        x=alt.X("cost:Q", title=f"{run.cost.assumptions.currency} per 1M output tokens"),
        y=_names(run.workloads(), "workload"),
        yOffset=alt.YOffset("model:N", sort=[run.label(m) for m in run.models]),
        color=_color(run, run.models),
    )
    return chart.mark_bar(height={"band": 0.8}).properties(width=WIDTH - 120, height={"step": 20, "for": "offset"})


def pareto(of: Pareto) -> Chart:
    """A fleet's models at their deciding points: price or tokens/s across, lost answers or p95 TTFT upwards."""
    data = [{**point._asdict(), "y": point.y * (100 if of.against == "quality" else 1)} for point in of.points]
    across = f"{of.unit} per 1M output tokens" if of.by == "cost" else "throughput (tok/s)"
    upwards = "answers lost (%)" if of.against == "quality" else "p95 TTFT (ms)"
    gpus = list(dict.fromkeys(point.gpu for point in of.points))
    base = _chart(data).encode(
        x=alt.X("x:Q", title=across, scale=alt.Scale(zero=False, nice=True, padding=24)),
        y=alt.Y("y:Q", title=upwards, scale=alt.Scale(zero=True, nice=True, padding=12)),
    )
    color = alt.Color("gpu:N", scale=alt.Scale(domain=gpus, range=_cycled(len(gpus))), title=None)
    points = base.mark_point(size=110, filled=True, opacity=1).encode(color=color)
    names = base.mark_text(align="left", dx=9, dy=-7).encode(text="name:N")
    front = base.mark_line(strokeDash=[4, 3], color=BASELINE_COLOR).transform_filter("datum.best")
    return alt.layer(front, points, names).properties(width=WIDTH - 60, height=300)


def _cycled(count: int) -> list[str]:
    return list(itertools.islice(itertools.cycle(VARIANT_COLORS), count))
