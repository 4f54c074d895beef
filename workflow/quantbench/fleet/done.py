"""The marker of a comparison whose run has succeeded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata

from quantbench.config.configuration import MEASUREMENT_PROTOCOL
from quantbench.fleet.comparisons import Fleet
from quantbench.judgement import judgement
from quantbench.records.base import read
from quantbench.records.fleet import Done
from quantbench.records.layout import Results
from quantbench.records.server import Ready


def of(fleet: Fleet, comparison: str) -> Done:
    """What is to be known of a comparison that is done, now."""
    results = Results(fleet.plan(comparison).gpu, fleet.folder(comparison))
    return Done(
        fleet=fleet.name,
        comparison=comparison,
        gpu=results.gpu,
        folder=fleet.shown(comparison),
        results=results.root,
        command=fleet.command(comparison),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        protocol=MEASUREMENT_PROTOCOL,
        judged_by=judgement(),
        versions={"snakemake": metadata.version("snakemake"), **dict(_engines(results))},
    )


def _engines(results: Results) -> Iterator[tuple[str, str]]:
    """The engine's version, and the driver's, as the servers of the run have told them."""
    found = [read(path, Ready).versions for path in results.below.glob(results.path("ready", model="*"))]
    for name in ("vllm", "driver"):
        if known := sorted({version for versions in found if (version := getattr(versions, name))}):
            yield name, ", ".join(known)
