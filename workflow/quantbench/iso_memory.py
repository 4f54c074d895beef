"""With how many requests in flight `iso_memory` measures each model: decided when the plan is made, and kept.

A server that has run says how many tokens its KV cache holds; before a first start arithmetic does. The number that was
chosen stays as long as it is nearly what fits (`judge.iso_memory.stands`), so that no block is thrown away for one
request more or less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from quantbench import subjects
from quantbench.config.configuration import Plan
from quantbench.engines.vllm import inspection
from quantbench.errors import QuantbenchError
from quantbench.judge.iso_memory import chosen, stands
from quantbench.judge.memory import requests_at
from quantbench.observe import checkpoint
from quantbench.records.base import convert, read, write
from quantbench.records.layout import Results
from quantbench.records.server import IsoFit, Ready, ServerSpec
from quantbench.wording import listing

Fits = Mapping[str, Mapping[str, IsoFit]]


def planned(plan: Plan, results: Results, root: Path, *, look: bool) -> Plan:
    """The plan with the numbers of each workload that asks for them, where those of all models are known.

    look: decide anew, in the process that owns the run; its jobs take what it kept. root: the project's folder.
    """
    kept, fits = _kept(results), {}
    for workload, length in _asked(plan).items():
        before = kept.get(workload, {})
        own = {
            name: _fit(plan, name, length, before.get(name), results, root) if look else before.get(name)
            for name in plan.models
        }
        known = {name: fit for name, fit in own.items() if fit is not None and fit.length == length}
        if len(known) == len(own):
            fits[workload] = known
    return replace(plan, iso_memory=fits)


def keep(plan: Plan, results: Results) -> None:
    """Write down the numbers, for the jobs of the run and for later plans; nothing where none were asked for."""
    if plan.iso_memory or _kept(results):
        write(results.file("iso_fits"), {name: dict(fits) for name, fits in plan.iso_memory.items()})


def notes(plan: Plan, results: Results, root: Path) -> Iterator[str]:
    """With what is measured, and why with no more or not yet, for the person at the terminal."""
    kept = _kept(results)
    for workload, length in _asked(plan).items():
        key, fits = f"workloads.{workload}.iso_memory", plan.iso_memory.get(workload)
        if fits is None:
            unknown = [name for name in plan.models if _fit(plan, name, length, None, results, root) is None]
            yield (
                f"{key}: how many requests of {length} tokens fit {listing(unknown)} is not known before a start; "
                "run the same command again afterwards, and they are measured"
            )
            continue
        each = listing(f"{name} {fit.concurrency} ({_source(fit)})" for name, fit in fits.items())
        yield f"{key}: requests of {length} tokens in flight: {each}"
        if workload not in plan.iso_cells:
            yield f"{key}: the same number for all models, so that nothing more is measured"
        if bounded := [f"{name} ({fit.limit} of {fit.fits})" for name, fit in fits.items() if fit.limit < fit.fits]:
            yield f"{key}: server.max_num_seqs lets fewer run than fit {listing(bounded)}; raise it to measure that"
        for name, fit in fits.items():
            old = kept.get(workload, {}).get(name)
            if old and old.length == length and old.concurrency != fit.concurrency:
                yield f"{key}: {name}: {fit.concurrency} in place of {old.concurrency}, which is not what fits"


def _source(fit: IsoFit) -> str:
    return f"{fit.fits} fit" if fit.source == "server" else f"{fit.fits} fit by arithmetic"


def _asked(plan: Plan) -> dict[str, int]:
    workloads = plan.config["workloads"]
    return {name: int(w["iso_memory"]) for name, w in workloads.items() if w["iso_memory"] is not None}


def _kept(results: Results) -> Fits:
    path = results.file("iso_fits")
    return read(path, dict[str, dict[str, IsoFit]]) if path.exists() else {}


def _fit(plan: Plan, name: str, length: int, before: IsoFit | None, results: Results, root: Path) -> IsoFit | None:
    """The number of one model; None where not even one request fits, or nobody knows."""
    spec = convert(plan.server_spec(name), ServerSpec)
    limit = spec.settings.max_num_seqs
    held = _served(plan, name, length, results)
    reckoned = held is None
    fits = held if held is not None else _reckoned(plan, spec, length, root)
    if fits is None or fits < 1:
        return None
    stays = before is not None and before.length == length and stands(before.concurrency, fits, limit)
    errs = reckoned and spec.settings.kv_cache_gib is None
    return IsoFit(
        length=length,
        concurrency=before.concurrency if before and stays else max(1, chosen(fits, limit, reckoned=errs)),
        fits=int(fits),
        limit=limit,
        source="arithmetic" if reckoned else "server",
    )


def _served(plan: Plan, name: str, length: int, results: Results) -> float | None:
    """How many fit by the record of this very server; None without one."""
    path = results.file("ready", model=name)
    if not path.exists():
        return None
    ready = read(path, Ready)
    if ready.served_with is not None and ready.served_with.spec != plan.measured_spec(name):
        return None
    return requests_at(ready.memory, length)


def _reckoned(plan: Plan, spec: ServerSpec, length: int, root: Path) -> float | None:
    """How many fit by arithmetic; None where the model is not here, or of a kind that it does not know."""
    try:
        subject = _subject(plan, spec, root)
    except (OSError, ValueError, QuantbenchError):
        return None  # `inputs` says what is wrong with its files
    return inspection.concurrency(subject, subjects.card(plan), length)


def _subject(plan: Plan, spec: ServerSpec, root: Path) -> inspection.Subject:
    """The model as far as it is here, else by its published shape; one that the run makes by what it is made of."""
    if found := subjects.found(spec):
        return found
    made_of = _config_of(plan, spec.model, root) if spec.settings.kv_cache_gib is not None else None
    return inspection.Subject(spec, "", "config", made_of, None) if made_of else subjects.published(plan, spec)


def _config_of(plan: Plan, name: str, root: Path) -> Mapping[str, Any] | None:
    """config.json of what a model is made of: quantized, its KV cache is the same, its weights are not."""
    model = plan.config["models"][name]
    if not plan.made_here(name):
        found = subjects.found(convert(plan.server_spec(name), ServerSpec))
        return found.config if found else None
    if model["quantize"]:
        return _config_of(plan, model["quantize"]["from"], root)
    return checkpoint.config(root / "data" / "demo-model") if model["source"] == "demo" else None
