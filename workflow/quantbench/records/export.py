"""A row of the export: one figure of a run, with what it is of, how sure it is, and where it is from."""

from __future__ import annotations

from datetime import datetime
from types import NoneType
from typing import Annotated, Any, Final, NamedTuple, get_args, get_type_hints

from msgspec import Meta

from quantbench.records.base import Record


def _says(meaning: str) -> Meta:
    return Meta(description=meaning)


class ExportRow(Record, frozen=True, kw_only=True):
    """One figure. The columns of `KEY` together are of one row only."""

    run: Annotated[str, _says("the results folder, as it was named to the command")]
    fleet: Annotated[str | None, _says("of a comparison of a fleet: its fleet, `fleets/{fleet}/{comparison}/results/`")]
    comparison: Annotated[str | None, _says("the same: its name in the fleet")]
    gpu: Annotated[str, _says("the profile: the name of the results folder")]
    gpu_name: Annotated[str | None, _says("the device, by its name in the config")]
    baseline: Annotated[str | None, _says("the model that the variants of the run are compared with")]
    model: Annotated[
        str | None,
        _says(
            "the model or arm that the figure is of (`{baseline}__aa`: the baseline measured a second time); of a "
            "comparison the variant; null: of the whole run"
        ),
    ]
    label: Annotated[str | None, _says("the model as pages name it")]
    workload: Annotated[str | None, _says("the workload; null: of no workload (memory, start, answers)")]
    concurrency: Annotated[int | None, _says("requests in flight")]
    max_tokens: Annotated[int | None, _says("length of every answer")]
    block: Annotated[int | None, _says("the block; null: of all blocks together, or of none")]
    suite: Annotated[str | None, _says("the quality suite")]
    use: Annotated[str | None, _says("the use that a gate's word or a decision is for")]
    metric: Annotated[str, _says("what the figure is: the table below")]
    value: Annotated[float | None, _says("the figure; null: blank, see `reasons`. Flags are 0 and 1")]
    unit: Annotated[str, _says("its unit, and that of its limits")]
    ci_low: Annotated[float | None, _says("lower limit of its interval; null: it has none, or the data support none")]
    ci_high: Annotated[float | None, _says("upper limit")]
    confidence: Annotated[float | None, _says("of the interval: 0.95, of the gate 0.90 (each limit one-sided 0.95)")]
    n: Annotated[int | None, _says("how many it rests on")]
    n_of: Annotated[str | None, _says("what `n` counts: requests, blocks, pairs, items, prompts or starts")]
    verdict: Annotated[
        str | None,
        _says(
            "what is concluded of the figure: the code of a comparison, the gate's status, the action of a decision, "
            "what bounds a cell"
        ),
    ]
    valid: Annotated[bool | None, _says("false: guards refused it, use it for nothing; null: no guard is of it")]
    reasons: Annotated[
        str, _says("guards that refused it (lower case) and codes that say why it or its interval is blank, with `;`")
    ]
    file: Annotated[str, _says("the file below `run` that it was read from")]
    measured_at: Annotated[datetime | None, _says("when it was measured (UTC): the block; else the run's last block")]
    vllm: Annotated[str | None, _says("the version of vLLM; null: unknown, or not the same for all models of a run")]
    hardware: Annotated[str | None, _says("the devices as they name themselves, joined with `, `")]
    source: Annotated[str | None, _says("the model's folder or hub id, as it was served")]
    quantization: Annotated[str | None, _says("what the model was found to be, such as W4A16")]
    protocol: Annotated[int | None, _says("version of what a block measures; compare none with another")]
    tool: Annotated[str, _says("hash of the code that judged and exported")]


KEY: Final = ("run", "model", "workload", "concurrency", "max_tokens", "block", "suite", "use", "metric")
"""What a row is of: no two rows have all of these in common."""


class ColumnMeaning(NamedTuple):
    """A column: its type, whether it may be null, what it means."""

    name: str
    kind: type[Any]
    nullable: bool
    meaning: str


def described() -> list[ColumnMeaning]:
    """The columns in their order."""
    found = []
    for name, hint in get_type_hints(ExportRow, include_extras=True).items():
        of, meta = get_args(hint)
        kinds = [kind for kind in get_args(of) if kind is not NoneType] or [of]
        found.append(ColumnMeaning(name, kinds[0], NoneType in get_args(of), meta.description))
    return found
