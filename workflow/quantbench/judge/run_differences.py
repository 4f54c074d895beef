"""What differs between two runs of one model and cell: every guard of a pair, and all that blocks are measured with.

What is expected to differ is declared by the name of a group (`GROUPS`) or by a single key (`max_num_seqs`); whatever
else differs refuses the cell or warns, as the guard says. What only one run knows is not held against the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from quantbench.judge.guards.evaluate import evaluate_pair, evaluate_server
from quantbench.judge.provenance import run_differences
from quantbench.records.block import BlockContext, BlockKnobs
from quantbench.records.cell import Cell
from quantbench.records.plan import ArmPlan
from quantbench.records.server import Ready, ServerSettings
from quantbench.records.two_runs import RunDifference

Severity = Literal["fail", "warn"]
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "vllm": ("vllm", "attention_backend"),
    "gpu": ("gpu", "card", "clocks", "cpus"),
    "driver": ("driver",),
    "weights": ("weights", "tokenizer", "templates", "quantization"),
    "prompts": ("prompts", "prompt_lengths", "answer_lengths"),
    "protocol": tuple(BlockKnobs.__struct_fields__),
    "settings": (
        *(name for name in ServerSettings.__struct_fields__ if name != "quantization"),
        *("kv_cache_dtype", "speculative", "platform", "mode"),
    ),
}
"""What `--varies` declares: the keys of each group. Those of `made` and `claimed` are of the weights."""
_OF_WEIGHTS: Final = ("made.", "claimed.")
_OF_GUARD: Final[Mapping[str, str]] = {
    "weights": "weights",
    "execution_mode": "enforce_eager",
    "kv_cache_dtype": "kv_cache_dtype",
    "dtype": "dtype",
    "max_model_len": "max_model_len",
    "prefix_caching": "prefix_caching",
    "attention_backend": "attention_backend",
    "tokenizer": "tokenizer",
    "template_differs": "templates",
    "versions": "vllm",
    "hardware": "gpu",
    "prompt_length": "prompt_lengths",
    "answer_length": "answer_lengths",
    "clocks_differ": "clocks",
}
"""Guards of a pair that tell of a difference, and its key. The others keep their own name, which nothing declares."""
_NEVER: Final = ("not_interleaved", "server_changed", "declared_absent", "drift", "memory_breakdown")
"""Guards of pairs that lie side by side, or of a variant: two runs never do, and one model is no variant of itself."""
_WARNS: Final = ("mode", "timeout_s")
"""Keys that change no figure by themselves."""


def differences(
    old: Sequence[BlockContext],
    new: Sequence[BlockContext],
    ready_old: Mapping[str, Ready],
    ready_new: Mapping[str, Ready],
    varies: Sequence[str],
) -> list[RunDifference]:
    """All that differs between the blocks of one model and cell in two runs, each key once."""
    model, where = old[0].served, f"{old[0].arm} {old[0].cell.key}"
    found: dict[str, tuple[str, Severity]] = {}
    for key, detail, severity in (
        *_measured(old, new),
        *_devices(old, new),
        *_guarded(ready_old[model], ready_new[model], old, new, varies),
    ):
        found.setdefault(key, (detail, severity))
    return [
        RunDifference(
            key=key,
            group=group_of(key),
            detail=detail,
            severity=severity,
            declared=bool({key, group_of(key)} & set(varies)),
            of=(where,),
        )
        for key, (detail, severity) in found.items()
    ]


def group_of(key: str) -> str:
    """What declares a key; empty for what nothing does."""
    if key.startswith(_OF_WEIGHTS):
        return "weights"
    return next((group for group, keys in GROUPS.items() if key in keys), "")


def unknown_names(varies: Iterable[str]) -> list[str]:
    """Names that declare nothing."""
    keys = {*GROUPS, *(key for keys in GROUPS.values() for key in keys)}
    return [name for name in varies if name not in keys and not name.startswith(_OF_WEIGHTS)]


def absent(varies: Sequence[str], found: Iterable[RunDifference]) -> tuple[str, ...]:
    """What is declared, and differs nowhere."""
    seen = {name for difference in found for name in (difference.key, difference.group)}
    return tuple(name for name in varies if name not in seen)


def joined(found: Mapping[tuple[str, Cell], Sequence[RunDifference]]) -> tuple[RunDifference, ...]:
    """Each difference once, with all that have it: models, or "model cell" where not all cells of a model do."""
    groups: dict[tuple[str, str], list[tuple[tuple[str, Cell], RunDifference]]] = {}
    for key, some in found.items():
        for difference in some:
            groups.setdefault((difference.key, difference.detail), []).append((key, difference))
    return tuple(_of_all(members, found) for members in groups.values())


def _of_all(
    members: Sequence[tuple[tuple[str, Cell], RunDifference]], found: Mapping[tuple[str, Cell], object]
) -> RunDifference:
    having = {key for key, _ in members}
    models = dict.fromkeys(model for model, _ in having)
    whole = [model for model in models if all(key in having for key in found if key[0] == model)]
    rest = [f"{model} {cell.key}" for (model, cell), _ in members if model not in whole]
    first = members[0][1]
    fields = {name: getattr(first, name) for name in ("key", "group", "detail", "severity", "declared")}
    return RunDifference(**fields, of=(*sorted(whole), *rest))


def _measured(old: Sequence[BlockContext], new: Sequence[BlockContext]) -> Iterator[tuple[str, str, Severity]]:
    """With what the last blocks were measured; those of one run are alike, or `other_configuration` refused them."""
    for key, detail in run_differences(old[-1], new[-1]).items():
        yield key, detail, "warn" if key in _WARNS else "fail"


def _devices(old: Sequence[BlockContext], new: Sequence[BlockContext]) -> Iterator[tuple[str, str, Severity]]:
    """Devices that differ in what no guard of a pair asks: another profile, card, driver, number of CPUs."""
    a, b = old[-1], new[-1]
    if a.hardware is None or b.hardware is None:  # results of an early version: the profile is all they tell
        if a.gpu != b.gpu:
            yield "gpu", f"profile {a.gpu} against {b.gpu}", "fail"
        return
    if a.hardware.names != b.hardware.names:
        yield "gpu", f"{', '.join(a.hardware.names)} against {', '.join(b.hardware.names)}", "fail"
    elif a.hardware.uuids != b.hardware.uuids:
        yield "card", "another card of the same kind", "warn"
    if None not in (a.hardware.driver, b.hardware.driver) and a.hardware.driver != b.hardware.driver:
        yield "driver", f"{a.hardware.driver} against {b.hardware.driver}", "warn"
    if None not in (a.host.cpus, b.host.cpus) and a.host.cpus != b.host.cpus:
        yield "cpus", f"{a.host.cpus} against {b.host.cpus}", "warn"


def _other_weights(a: Ready, b: Ready) -> Iterator[tuple[str, str, Severity]]:
    """What tells two models apart, where not both runs know the digest of their files."""
    sizes = a.memory.weights_gib, b.memory.weights_gib
    if a.source != b.source:
        yield "weights", f"{a.source} against {b.source}, and not both know the digest of their files", "fail"
    elif sizes[0] and sizes[1] and len(a.devices) == len(b.devices) and not 0.98 < sizes[0] / sizes[1] < 1.02:
        yield "weights", f"{sizes[0]} against {sizes[1]} GiB of them", "fail"


def _guarded(
    a: Ready, b: Ready, old: Sequence[BlockContext], new: Sequence[BlockContext], varies: Sequence[str]
) -> Iterator[tuple[str, str, Severity]]:
    """What guards of a pair say, and which server is not what it claims; graphs are the version's own choice."""
    if None in (a.source_id, b.source_id):
        yield from _other_weights(a, b)
    arm = ArmPlan(differs_in=("engine",) if "vllm" in varies else ())
    pair = (result for result in evaluate_pair(a, b, old, new, ArmPlan(differs_in=()), arm) if result.id not in _NEVER)
    if (
        None not in (a.settings.speculative, b.settings.speculative)
        and a.settings.speculative != b.settings.speculative
    ):
        yield "speculative", f"{a.settings.speculative} against {b.settings.speculative}", "fail"
    versions = [ready.versions for ready in (a, b)]
    if "vllm" in varies and versions[0] != versions[1]:  # with `engine` allowed, the guard is silent
        yield "vllm", " against ".join(f"vLLM {v.vllm}, torch {v.torch}" for v in versions), "fail"
    servers = (result for ready in (a, b) for result in evaluate_server(ready) if result.status == "fail")
    for result in (*pair, *servers):
        if result.status == "fail" or result.status == "warn":
            yield _OF_GUARD.get(result.id, result.id), result.detail, result.status
