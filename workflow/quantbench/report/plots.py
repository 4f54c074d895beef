"""Charts of the report: altair specifications, drawn to SVG and PNG without a browser or a network.

Inside the page text and lines take the page's colour (`currentColor`), so one drawing serves light and dark;
as files they have a white background.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from quantbench.files import atomic, write_text
from quantbench.report.facts import Facts
from quantbench.report.narrative_cost import chart_entries, currency
from quantbench.wording import is_number

Chart = Any  # altair's chart classes share no typed base
WIDTH = 620
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


def draw_all(facts: Facts) -> dict[str, Chart]:
    """All charts that the facts have data for, by file name."""
    makers: dict[str, Callable[[Facts], Chart | None]] = {
        "throughput_ratio": forest,
        "memory": memory,
        "cost": cost,
    }
    found = {name: make(facts) for name, make in makers.items()}
    for workload in facts.workloads():
        found[f"throughput_{workload}"] = throughput(facts, workload)
        found[f"latency_{workload}"] = latency(facts, workload)
    return {name: chart for name, chart in found.items() if chart is not None}


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
    spec: dict[str, Any] = chart.to_dict()
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


def _color(facts: Facts, models: list[str], field: str = "model") -> alt.Color:
    known = {facts.baseline: BASELINE_COLOR} | {
        name: VARIANT_COLORS[i % len(VARIANT_COLORS)] for i, name in enumerate(facts.variants)
    }
    scale = alt.Scale(domain=[facts.label(m) for m in models], range=[known[m] for m in models])
    return alt.Color(f"{field}:N", scale=scale, title=None)


def _chart(values: list[dict[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=values))


def forest(facts: Facts) -> Chart | None:
    """Throughput ratio with CI per cell and variant; the band is the margin, filled points are shown differences."""
    order = {name: i for i, name in enumerate(facts.workloads())}
    rows = [row for row in facts.compared(metric="throughput_tok_s") if is_number(row["ratio"])]
    rows.sort(key=lambda row: (order.get(row["workload"], len(order)), row["max_tokens"], row["concurrency"]))
    if not rows:
        return None
    data = [
        {
            "cell": _cell_name(facts, row),
            "model": facts.label(row["variant"]),
            "ratio": row["ratio"],
            "low": row["ci_low"] if is_number(row["ci_low"]) else row["ratio"],
            "high": row["ci_high"] if is_number(row["ci_high"]) else row["ratio"],
            "shown": row["code"] in ("better", "worse"),
        }
        for row in rows
    ]
    margin = max(row["margin"] for row in rows)
    edges = [{"low": 1 / (1 + margin), "high": 1 + margin, "one": 1}]
    title = "tokens/sec, ratio to the baseline (95 % CI)"
    ratio = alt.X("ratio:Q", title=title, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=6))
    base = _chart(data).encode(
        y=_names([entry["cell"] for entry in data], "cell"),
        yOffset=alt.YOffset("model:N", sort=[facts.label(v) for v in facts.variants]),
        color=_color(facts, facts.variants),
    )
    bars = base.mark_rule(strokeWidth=2.5).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    points = base.mark_point(size=90, strokeWidth=2, opacity=1)
    filled = points.mark_point(size=90, filled=True, opacity=1).transform_filter("datum.shown").encode(x=ratio)
    hollow = points.transform_filter("!datum.shown").encode(x=ratio)
    band = _chart(edges).mark_rect(opacity=0.14, color=BASELINE_COLOR).encode(x="low:Q", x2="high:Q")
    one = _chart(edges).mark_rule(strokeDash=[4, 3]).encode(x="one:Q")
    height = {"step": 20, "for": "offset"}
    return alt.layer(band, one, bars, filled, hollow).properties(width=WIDTH - 200, height=height)


def _cell_name(facts: Facts, row: dict[str, Any]) -> str:
    """ "chat c=16", with max_tokens where a workload has several."""
    several = len({tokens for _, tokens in facts.cells(row["workload"])}) > 1
    return f"{row['workload']} c={row['concurrency']}" + (f", {row['max_tokens']} tokens" if several else "")


def _names(names: list[str], field: str) -> alt.Y:
    """A vertical axis of names, with room for the longest in any font."""
    unique = list(dict.fromkeys(names))
    extent = round(max(map(len, unique)) * 8.8)
    return alt.Y(
        f"{field}:N",
        sort=unique,
        title=None,
        axis=alt.Axis(labelLimit=400, minExtent=extent, ticks=False, domain=False),
    )


def _lines(facts: Facts, workload: str, metrics: dict[str, str]) -> list[dict[str, Any]]:
    """Values of the cells with the fewest max_tokens; those that rest on no valid block are left out."""
    tokens = min((t for _, t in facts.cells(workload)), default=None)
    return [
        {
            "model": facts.label(model),
            "concurrency": row["concurrency"],
            "value": row[metric],
            "panel": panel,
            "max_tokens": tokens,
        }
        for model in facts.models
        for row in facts.capacity.get(workload, {}).get(model, [])
        for metric, panel in metrics.items()
        if row["max_tokens"] == tokens and row.get("blocks") and is_number(row.get(metric))
    ]


def _line_chart(facts: Facts, data: list[dict[str, Any]], title: str, width: int) -> Chart:
    ticks = sorted({entry["concurrency"] for entry in data})
    x = alt.X("concurrency:Q", title="concurrency", scale=alt.Scale(type="log", base=2, nice=False, padding=12))
    x = x.axis(values=ticks, format="d", grid=False)
    y = alt.Y(
        "value:Q", title=title, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5, minExtent=54, titlePadding=8)
    )
    y = y.axis(tickCount=5, minExtent=54, titlePadding=8)
    chart = _chart(data).mark_line(point=alt.OverlayMarkDef(size=60), strokeWidth=2)
    return chart.encode(x=x, y=y, color=_color(facts, facts.models)).properties(width=width, height=220)


def throughput(facts: Facts, workload: str) -> Chart | None:
    """Tokens per second against concurrency."""
    data = _lines(facts, workload, {"throughput_tok_s": "throughput"})
    if len({entry["concurrency"] for entry in data}) < 2:
        return None
    return _line_chart(facts, data, "throughput (tok/s)", WIDTH - 60)


def latency(facts: Facts, workload: str) -> Chart | None:
    """TTFT and E2E against concurrency: the p95 where every cell has one, else the p50."""
    panels = []
    for name in ("ttft_ms", "e2e_ms"):
        tail = _lines(facts, workload, {f"p95_{name}": name})
        middle = _lines(facts, workload, {f"p50_{name}": name})
        data, which = (tail, "p95") if middle and len(tail) == len(middle) else (middle, "p50")
        if len({entry["concurrency"] for entry in data}) < 2:
            return None
        title = f"{which} {name.removesuffix('_ms').upper()} (ms)"
        panels.append(_line_chart(facts, data, title, (WIDTH - 150) // 2))
    return alt.hconcat(*panels, spacing=28)


def memory(facts: Facts) -> Chart | None:
    """Stacked GiB per model, as far as the log told them."""
    data = [
        {"model": facts.label(row["model"]), "part": words, "gib": row[key], "order": i}
        for row in facts.memory
        for i, (key, words) in enumerate(PARTS.items())
        if is_number(row.get(key))
    ]
    if not data:
        return None
    parts = [words for words in PARTS.values() if any(entry["part"] == words for entry in data)]
    scale = alt.Scale(domain=parts, range=[PART_COLORS[list(PARTS.values()).index(p)] for p in parts])
    labels = [facts.label(row["model"]) for row in facts.memory]
    return (
        _chart(data)
        .mark_bar(height=20)
        .encode(
            x=alt.X("gib:Q", stack="zero", title="GiB, as the server reports them"),
            y=_names(labels, "model"),
            color=alt.Color("part:N", scale=scale, title=None),
            order="order:Q",
        )
        .properties(width=WIDTH - 120, height={"step": 34})
    )


def cost(facts: Facts) -> Chart | None:
    """Price per million output tokens, per workload and model; None without a price."""
    data = [
        {"model": facts.label(entry["model"]), "workload": entry["workload"], "cost": entry["cost"]}
        for entry in chart_entries(facts)
        if is_number(entry["cost"])
    ]
    if not data:
        return None
    return (
        _chart(data)
        .mark_bar(height={"band": 0.8})
        .encode(
            x=alt.X("cost:Q", title=f"{currency(facts)} per 1M output tokens"),
            y=_names(facts.workloads(), "workload"),
            yOffset=alt.YOffset("model:N", sort=[facts.label(m) for m in facts.models]),
            color=_color(facts, facts.models),
        )
        .properties(width=WIDTH - 120, height={"step": 20, "for": "offset"})
    )
