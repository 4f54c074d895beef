"""Fleets of invented runs, joined: for the golden pages and for tests of the table."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from quantbench.fleet import table
from quantbench.records.fleet import Done, FleetRow, Joined, Missing
from quantbench.report import fleet, render
from report_fixture import Scenario, facts

FULL = Scenario(variants=("int8",), lost=0, suite="sound")
BARE = Scenario(price=False, quality=False)
UNTRUSTED = Scenario(aa_speed=1.1)
COMMAND = ("snakemake", "--cores", "1", "--configfile", "config/gpus/h100-80gb.yaml", "comparison.yaml")
FAILED = Missing(
    comparison="small",
    folder="fleets/spring/small",
    command=COMMAND,
    log="fleets/spring/small/run.log",
    last_words="quantbench: the run is not finished; 3 of 12 blocks are kept. What failed: no room is left.",
)


def done(comparison: str, **changes: Any) -> Done:
    """The marker of a comparison."""
    place = f"fleets/spring/{comparison}"
    base = Done(
        fleet="spring", comparison=comparison, gpu="test-gpu", folder=place, results="results/test-gpu",
        command=COMMAND, finished_at="2026-11-28T07:52:42+00:00", protocol=1, judged_by="d7304a1ec5508111",
        versions={"snakemake": "9.27.1", "vllm": "0.32.0"},
    )  # fmt: skip
    return replace(base, **changes)


def rows(scenario: Scenario, of: Done, **changes: Any) -> tuple[FleetRow, ...]:
    """The rows of a run."""
    return tuple(replace(row, **changes) for row in table.rows(facts(scenario), of))


def spring() -> Joined:
    """Two cards, all known of both; a third comparison has failed."""
    one, two = done("h100"), done("h200")
    faster = tuple(
        replace(row, gpu_name="Test GPU 48GB", cost_per_1m_tokens=(row.cost_per_1m_tokens or 0) * 0.8)
        for row in rows(Scenario(), two)
    )
    return Joined(fleet="spring", done=(one, two), missing=(FAILED,), rows=(*rows(FULL, one), *faster))


def mixed() -> Joined:
    """What must not be compared without a word: other methods, baselines, engines, currencies; a control that fails."""
    one = done("old", protocol=0, judged_by="0123456789abcdef")
    two = done("bare")
    return Joined(
        fleet="mixed",
        done=(one, two),
        missing=(replace(FAILED, last_words=""), replace(FAILED, comparison="never", log=None, last_words="")),
        rows=(
            *rows(UNTRUSTED, one, vllm="0.31.0", currency="EUR", baseline="fp16", quality_loss=None),
            *rows(BARE, two, currency="USD"),
        ),
    )


def alone() -> Joined:
    """One model of one comparison."""
    one = done("alone")
    return Joined(fleet="alone", done=(one,), missing=(), rows=rows(Scenario(variants=(), aa=False), one))


def pages() -> dict[str, str]:
    """{file name: text} of their pages."""
    made = {f"{joined.fleet}.md": render.page(fleet.page(joined)) for joined in (spring(), mixed(), alone())}
    html = fleet.report(spring(), {one.workload: "<svg></svg>" for one in fleet.paretos(spring())})
    speed = fleet.report(mixed(), {one.workload: "<svg></svg>" for one in fleet.paretos(mixed())})
    return made | {"spring.html": render.report(html), "mixed.html": render.report(speed)}
