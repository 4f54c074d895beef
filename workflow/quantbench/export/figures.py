"""Every metric of the export: name, unit, the file it is of, and its gauge. To add one: an entry of `FIGURES`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from quantbench.judge.summary import columns
from quantbench.records.metric import METRICS


class Unit(NamedTuple):
    """A unit of our tables as gauges have it: how our names end in it, the base unit, value * times / by."""

    ending: str
    base: str
    times: int = 1
    by: int = 1


UNITS: Final[Mapping[str, Unit]] = {
    "ms": Unit("_ms", "seconds", by=1000),
    "s": Unit("_s", "seconds"),
    "tok/s": Unit("_tok_s", "tokens_per_second"),
    "requests/s": Unit("_s", "requests_per_second"),
    "J/token": Unit("_j_per_token", "joules_per_token"),
    "nats/token": Unit("", "nats_per_token"),
    "MiB": Unit("_mib", "bytes", times=2**20),
    "GiB": Unit("_gib", "bytes", times=2**30),
    "percent": Unit("_pct", "ratio", by=100),
    "share": Unit("_share", "ratio"),
    "share of a core": Unit("_share", "ratio"),
    "ratio": Unit("_ratio", "ratio"),
    "MHz": Unit("_mhz", "hertz", times=10**6),
    "W": Unit("_w", "watts"),
    "°C": Unit("_c", "celsius"),
    "bits": Unit("_bits", "bytes", by=8),
    "flag": Unit("", ""),
    "currency": Unit("", ""),
    **{
        name: Unit(f"_{name}", name)
        for name in (
            *("tokens", "requests", "blocks", "chunks", "events", "drafts", "cores", "items", "pairs", "gpus"),
            *("servers", "positions"),
        )
    },
}
STEMS: Final = {
    "n": "asked",
    "n_used": "used",
    "failures": "failed",
    "tokens_in": "input",
    "tokens_out": "output",
    "j_per_token": "energy",
    "bits_per_weight": "per_weight",
    "ratio": "variant_over_baseline",
    "iso_ratio": "iso_memory_variant_over_baseline",
}
"""Names of gauges, before the unit, where they are not those of the metrics."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric of the export. `{of}` in its name stands for another metric. file: a kind of `layout.PATHS`."""

    name: str
    unit: str
    file: str
    meaning: str

    def called(self, of: str = "") -> str:
        """The name of a row's metric."""
        return self.name.format(of=of)

    def gauge(self, part: str = "") -> str:
        """The name of its gauge, and of those of its limits (part: `_ci_low`, `_ci_high`), the base unit last."""
        base = self.name.removesuffix("_{of}")
        unit = UNITS[self.unit]
        stem = STEMS.get(base) or (re.sub(rf"{unit.ending}(?=_|$)", "", base, count=1) if unit.ending else base)
        known = [word for word in (stem + part, unit.base) if word]
        if not part and f"_{stem}".endswith(f"_{unit.base}"):
            known = [stem]
        return "_".join(["quantbench", *known])

    def in_base_unit(self, value: float) -> float:
        """A figure in the unit of its gauge."""
        unit = UNITS[self.unit]
        return value * unit.times if unit.by == 1 else value / unit.by


_FACTS: Final = {
    "step_ms": ("ms", "time per token of a request"),
    "floor_ms": ("ms", "the least that it can be"),
    "kv_usage_peak": ("share", "the highest share of the KV cache in use that was read"),
    "power_w_mean": ("W", "mean power of the cards"),
    "sm_clock_mhz_mean": ("MHz", "mean clock of the SMs"),
    "sm_clock_mhz_min": ("MHz", "the lowest"),
    "temperature_c_max": ("°C", "the highest temperature"),
    "utilisation_pct_mean": ("percent", "mean utilisation, as NVML has it"),
    "memory_used_mib_max": ("MiB", "the most memory in use"),
}
_MEMORY: Final = {
    "bits_per_weight": ("bits", "of the linear layers, scales included"),
    "vram_before_mib": ("MiB", "in use before the start"),
    "vram_after_mib": ("MiB", "in use after it"),
    "vram_delta_mib": ("MiB", "the difference"),
    "vram_total_mib": ("MiB", "what there is"),
    "vram_delta_reduction_pct": ("percent", "how much less the difference is than the baseline's"),
    "weights_gib": ("GiB", "weights as they are loaded, of each GPU"),
    "weights_reduction_pct": ("percent", "how much less than the baseline's"),
    "checkpoint_gib": ("GiB", "size of the weight files"),
    "checkpoint_reduction_pct": ("percent", "how much less than the baseline's"),
    "kv_cache_gib": ("GiB", "KV cache, of each GPU"),
    "kv_cache_tokens": ("tokens", "tokens that the KV cache holds"),
    "kv_cache_tokens_ratio": ("ratio", "variant / baseline"),
    "max_concurrency": ("requests", "requests of the server's longest length that the KV cache holds, as it says"),
    "concurrency_at_length": ("requests", "requests of the run's longest length that the KV cache holds"),
    "length_tokens": ("tokens", "that length"),
    "activation_peak_gib": ("GiB", "peak of activations, of each GPU"),
    "cuda_graphs_gib": ("GiB", "CUDA graphs, of each GPU"),
    "non_torch_gib": ("GiB", "memory that torch does not know of, of each GPU"),
    "gpus": ("gpus", "how many serve the model"),
    "after_stop_mib": ("MiB", "in use after the server's stop"),
    "memory_returned": ("flag", "whether the stop gave the memory back"),
}
STARTS: Final = ("total_s", "weights_s", "compile_s", "warmup_s", "graphs_s", "engine_init_s")
_COSTS: Final = {
    "cost_per_1m_tokens": ("currency", "per million output tokens"),
    "cost_per_1m_total_tokens": ("currency", "per million tokens, input included"),
    "cost_per_request": ("currency", "per request"),
    "energy_cost_per_1m_tokens": ("currency", "of the energy of a million output tokens"),
    "tokens_per_hour": ("tokens", "output tokens of an hour"),
    "tokens_per_request": ("tokens", "of an answer that ends by itself, or else of the workload's requests"),
    "replicas": ("servers", "how many carry `cost.peak_requests_per_s`"),
}
_RATES: Final = {
    "cut": "ran into max_tokens", "cut_in_thought": "did so before the thought ended", "loops": "end in a loop",
    "broken": "are empty or garbled", "correct": "pass all their checks",
}  # fmt: skip
_LIKELIHOOD: Final = {
    "kl": ("nats/token", "KL(baseline || variant) over the full vocabulary, mean over prompts"),
    "kl_lower_bound": ("nats/token", "what the shared top of both lists alone shows, always too low"),
    "kl_p99": ("nats/token", "99 % quantile over positions"),
    "top1": ("share", "positions with the same most likely token"),
    "near_ties": ("share", "positions that differ there, by a near tie of the baseline"),
    "mean_dp": ("share", "mean change of the probability of the written token"),
    "rms_dp": ("share", "its root mean square"),
    "ppl_ratio": ("ratio", "perplexity, variant / baseline, paired"),
    "first_divergence": ("positions", "median index of the first position with another most likely token"),
}
_ANSWERS: Final = {
    "suite_passed_share": ("share", "items that the variant passes"),
    "suite_passed_share_of_baseline": ("share", "of the same items, those that the baseline passes"),
    "suite_lost": ("items", "passed by the baseline alone"),
    "suite_gained": ("items", "passed by the variant alone"),
    "suite_unanswered": ("items", "without an answer of a server"),
}
_JUDGE: Final = {
    "judge_share": ("share", "pairs that a judging model decided for the variant, of the decided ones"),
    "judge_false_preference": ("share", "pairs of the baseline with itself that were no tie"),
    "judge_ties": ("pairs", "ties"),
    "judge_failed": ("pairs", "pairs without a word"),
}
_GATE: Final = {
    "gate_loss": ("share", "(lost - gained) / items of a use; verdict: the gate's word on the use"),
    "gate_margin": ("share", "the loss that is held to be harmless"),
    "gate_smallest_loss": ("share", "the loss that this many items would have seen with a power of 80 %"),
    "gate_floor": ("share", "loss of the baseline against its own repetition"),
    "gate_items_needed": ("items", "items that would decide; only where it is not decided and a number would"),
}


def _tuples() -> Iterator[Figure]:
    """Figures of the tuple CSV, and of blocks those that they have."""
    for column in columns("batch"):
        metric = column.name.removesuffix("_lo").removesuffix("_hi")
        if column.unit in UNITS and column.name not in ("concurrency", "max_tokens") and metric == column.name:
            of = "of a block, or of a tuple's valid blocks; " if metric in METRICS and METRICS[metric].block else ""
            yield Figure(column.name, column.unit, "cell", of + column.meaning)


def _all() -> Iterator[Figure]:
    yield from _tuples()
    yield from _listed("measurement", _FACTS)
    yield Figure(
        "ratio_{of}", "ratio", "verdict", "{of}, variant / baseline, over paired blocks; of `__aa` the control"
    )
    yield Figure(
        "iso_ratio_{of}", "ratio", "verdict", "the same, each model with as many requests as its KV cache holds"
    )
    yield Figure("drift_{of}", "percent", "verdict", "trend of {of} in the baseline's blocks over the session")
    yield Figure(
        "chat_vs_batch_quotient", "ratio", "impact", "ratio in batch / ratio in chat; verdict: what it helps more"
    )
    yield from _listed("memory", _MEMORY)
    for start, said in (("run", "the run"), ("cold", "an empty"), ("warm", "a warm")):
        meaning = (
            f"a phase of the start that {said} needed" if start == "run" else f"the same with {said} compile cache"
        )
        kinds = {f"startup_{start}_{name}": ("s", f"{meaning}, median") for name in STARTS}
        yield from _listed("startup_table", kinds)
    yield from _listed("cost", _COSTS)
    yield Figure("price_per_hour", "currency", "cost", "of all that serves the model")
    yield Figure("saving_pct", "percent", "cost", "share of the bill that the variant saves")
    for name, of in (("correct_answer", "a correct answer"), ("retry", "one, the baseline asked again where it fails")):
        yield Figure(f"cost_per_{name}", "currency", "cost", f"{of}, of the variant")
        yield Figure(f"{name}_cost_ratio", "ratio", "cost", f"{of}, variant / baseline")
    yield Figure("cost_per_correct_answer_of_baseline", "currency", "cost", "a correct answer, of the baseline")
    yield Figure("answer_length_ratio", "ratio", "cost", "length of answers that end by themselves, variant / baseline")
    yield Figure("answer_tokens", "tokens", "cost", "their mean length, of the variant")
    yield Figure("answer_tokens_of_baseline", "tokens", "cost", "and of the baseline")
    for rate, meaning in _RATES.items():
        yield Figure(f"answers_{rate}_share", "share", "cost", f"answers of the variant that {meaning}")
        yield Figure(f"answers_{rate}_share_of_baseline", "share", "cost", "of the baseline")
        yield Figure(f"answers_{rate}_share_difference", "share", "cost", "variant - baseline")
    yield from _listed("suite_score", _ANSWERS)
    yield from _listed("suite_score", _LIKELIHOOD)
    yield from _listed(
        "suite_score", {f"floor_{k}": (u, "the baseline's own repetition") for k, (u, _) in _LIKELIHOOD.items()}
    )
    yield from _listed("suite_score", _JUDGE)
    yield Figure(
        "answers_identical_share", "share", "quality_details", "answers to the quality prompts that are the same"
    )
    yield from _listed("decision", _GATE)
    yield Figure(
        "chosen", "flag", "decision", "whether the decision for the use names the variant; verdict: what to do with it"
    )
    yield Figure("measured_s", "s", "measurement", "time inside of blocks")
    yield Figure(
        "measured_share", "share", "measurement", "of the time that lanes were held, what lies inside of blocks"
    )
    yield Figure("run_blocks", "blocks", "measurement", "blocks of the run")
    yield Figure("run_blocks_invalid", "blocks", "measurement", "of them those that guards refused")


def _listed(file: str, kinds: Mapping[str, tuple[str, str]]) -> Iterator[Figure]:
    return (Figure(name, unit, file, meaning) for name, (unit, meaning) in kinds.items())


FIGURES: Final[Mapping[str, Figure]] = {figure.name: figure for figure in _all()}
FACTS, MEMORY, COSTS = tuple(_FACTS), tuple(_MEMORY), tuple(_COSTS)
RATES, LIKELIHOOD = tuple(_RATES), tuple(_LIKELIHOOD)
"""Metrics that have the names of fields of their records."""
