"""Tuples asked for by the names of their CSVs: why one cannot be measured, where snakemake finds no rule."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from quantbench.config.configuration import Plan
from quantbench.config.schema import Fault
from quantbench.errors import QuantbenchError
from quantbench.records.cell import AA_SUFFIX, Cell

_CSV = re.compile(r"(?:\./)?results/([^/]+)/cells/([^/]+)/([^/]+)/([^/]+)\.csv")


def tuples(words: Iterable[str]) -> list[str]:
    """Those of the words that name the CSV of a tuple."""
    return [word for word in words if _CSV.fullmatch(word)]


def check(plan: Plan, words: Iterable[str]) -> None:
    """Raise QuantbenchError for every CSV of a tuple that this configuration cannot measure; `words` may be others."""
    named = [(target, match) for target in words if (match := _CSV.fullmatch(target))]
    faults = [(target, fault) for target, match in named for fault in _faults(plan, *match.groups())]
    if faults:
        what = "; ".join(f"{target}: {fault.what}" for target, fault in faults)
        raise QuantbenchError(what, remedy="; ".join(dict.fromkeys(fault.remedy for _, fault in faults)))


def _faults(plan: Plan, gpu: str, arm: str, workload: str, point: str) -> Iterator[Fault]:
    arms, workloads = {*plan.models, plan.baseline + AA_SUFFIX}, plan.config["workloads"]
    if gpu != plan.gpu:
        yield Fault(f"this run's profile is '{plan.gpu}'", f"ask with --config gpu={gpu}")
    elif arm not in arms:
        known = "is not selected" if arm in plan.config["models"] else "is not in models"
        yield Fault(f"'{arm}' {known} ({', '.join(sorted(arms))})", "correct the name, or add it to select or models")
    elif workload not in workloads:
        yield Fault(f"'{workload}' is not a selected workload ({', '.join(workloads)})", "correct the workload's name")
    elif (cell := Cell.parse(f"{workload}/{point}")) is None:
        yield Fault(f"'{point}' is not a point", "write it like c8_t128: 8 requests in flight, 128 tokens each")
    else:
        try:
            plan.block_knobs(cell)
        except QuantbenchError as error:
            yield Fault(error.what.removeprefix("config: "), error.remedy)
