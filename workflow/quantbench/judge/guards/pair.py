"""Guards of a comparison: do the two arms differ in what is declared, and in nothing else?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from quantbench.judge.drift import DRIFT_ALPHA, DRIFT_PCT, drift_of
from quantbench.judge.guards.base import Missing, PairFacts, Seen, guard, metric
from quantbench.judge.pairing import pair_up
from quantbench.records.block import BlockContext
from quantbench.records.cell import Cell
from quantbench.records.plan import Factor
from quantbench.records.server import Ready
from quantbench.wording import change, p_value


@guard("pair", "fail", title="Weights differ",
       detection="source_id, quantization.claimed and quantization.label of both ready.json, without `weights` in "
                 "differs_in",
       remedy="Declare `weights` in the model's differs_in, or serve the same weights.")  # fmt: skip
def weights(facts: PairFacts) -> Seen:
    """Something else was declared to be all that differs, and the weights differ too."""
    if facts.may_differ("weights"):
        return Seen(False, "declared")
    return _weights(facts)


def _weights(facts: PairFacts) -> Seen:
    """Whether the arms serve other files, or the same ones quantized otherwise."""
    return facts.equal(lambda r: r.quantization.claimed, lambda r: r.source_id, lambda r: r.quantization.label)


@guard("pair", "warn", title="Declared, and not there",
       detection="what one of the models declares in differs_in is equal in both",
       remedy="Correct differs_in, or the setting that was to make the difference.")  # fmt: skip
def declared_absent(facts: PairFacts) -> Seen:
    """The comparison is called one of something in which its models do not differ."""
    declared = facts.said_to_differ
    absent, unknown = [], []
    for factor in declared:
        try:
            seen = _DIFFERENCES[factor](facts)
        except Missing as missing:
            unknown.append(missing)
        else:
            absent += [] if seen.bad else [f"declared {factor}, but both have {seen.detail}"]
    if unknown and not absent:
        raise unknown[0]
    return Seen(bool(absent), "; ".join(absent) or f"declared and there: {', '.join(declared) or 'nothing'}")


@guard("pair", "fail", title="CUDA graphs or eager mode differ",
       detection="settings.enforce_eager of both ready.json, and settings.cuda_graphs unless `engine` is declared",
       remedy="Use the same enforce_eager for all models.")  # fmt: skip
def execution_mode(facts: PairFacts) -> Seen:
    """One arm runs captured graphs, the other eager code; that alone can be 2 ×."""
    eager: Callable[[Ready], object] = lambda r: r.settings.enforce_eager  # noqa: E731
    if facts.may_differ("engine"):  # which graphs are captured is the version's own choice
        return facts.equal(eager)
    return facts.equal(eager, lambda r: r.settings.cuda_graphs)


@guard("pair", "fail", title="KV-cache dtype differs",
       detection="settings.kv_cache_dtype, and cache_dtype of the running engines, without `kv_cache` in differs_in",
       remedy="Set the same --kv-cache-dtype for both, or declare `kv_cache` in the model's differs_in.")  # fmt: skip
def kv_cache_dtype(facts: PairFacts) -> Seen:
    """A smaller KV cache is a second change beside the weights."""
    return _allowed(facts, "kv_cache")


def _kv_cache(facts: PairFacts) -> Seen:
    a, b = (arm.need(lambda r: r.settings.kv_cache_dtype) for arm in (facts.a, facts.b))
    # "auto" may still mean two things: what the running engines say of their cache decides
    engines = [sorted({c.server.after.cache_dtype for c in arm if c.server.after.cache_dtype}) for arm in facts.arms]
    text = f"{a} against {b}" + (f", engines say {engines[0]} and {engines[1]}" if all(engines) else "")
    return Seen(a != b or (all(engines) and engines[0] != engines[1]), text)


@guard("pair", "fail", title="Activation dtype differs",
       detection="settings.dtype of both ready.json",
       remedy="Set server.dtype for all models.")  # fmt: skip
def dtype(facts: PairFacts) -> Seen:
    """AWQ and GPTQ repositories may load as float16 beside a bfloat16 baseline."""
    return facts.equal(lambda r: r.settings.dtype)


@guard("pair", "fail", title="max-model-len differs",
       detection="settings.max_model_len of both ready.json, without `max_model_len` in differs_in",
       remedy="Set server.max_model_len for all models, or declare `max_model_len` in the model's "
              "differs_in.")  # fmt: skip
def max_model_len(facts: PairFacts) -> Seen:
    """It changes memory planning, graph shapes and which prompts fit."""
    return _allowed(facts, "max_model_len")


@guard("pair", "fail", title="Prefix caching differs",
       detection="settings.prefix_caching of both ready.json",
       remedy="Use the same setting for all models.")  # fmt: skip
def prefix_caching(facts: PairFacts) -> Seen:
    """One arm may reuse what the other computes."""
    return facts.equal(lambda r: r.settings.prefix_caching)


@guard("pair", "warn", title="Attention backend differs",
       detection="settings.attention_backend of both ready.json",
       remedy="Choose one backend for both, or report it as part of the variant.")  # fmt: skip
def attention_backend(facts: PairFacts) -> Seen:
    """Attention kernels differ in speed on their own."""
    return facts.equal(lambda r: r.settings.attention_backend)


@guard("pair", "fail", title="Tokenizer differs",
       detection="ids of 20 probe texts from /tokenize of both servers",
       remedy="Use a variant with the baseline's tokenizer.")  # fmt: skip
def tokenizer(facts: PairFacts) -> Seen:
    """The same text becomes different tokens: other lengths, other work, other answers."""
    return facts.equal(lambda r: r.tokenizer.probe_sha256)


@guard("pair", "fail", title="Chat template differs",
       detection="ids of a chat probe from /tokenize of both servers",
       remedy="Give both servers the same --chat-template.")  # fmt: skip
def template_differs(facts: PairFacts) -> Seen:
    """The same messages become different prompts."""
    return facts.equal(lambda r: r.tokenizer.chat_probe_sha256)


@guard("pair", "fail", title="Versions differ",
       detection="versions.vllm and versions.torch of both ready.json, without `engine` in differs_in",
       remedy="Serve both models from one environment, or declare `engine` in the model's differs_in.")  # fmt: skip
def versions(facts: PairFacts) -> Seen:
    """The comparison is one of vLLM or torch versions."""
    return _allowed(facts, "engine")


@guard("pair", "fail", title="Hardware differs",
       detection="hardware.names of both ready.json and of all blocks: the devices' own names, from NVML or "
                 "/proc/cpuinfo; with `gpus` in differs_in their number may differ",
       remedy="Put both models on lanes with equal devices, or declare `gpus` in the model's differs_in where only "
              "their number differs; start an empty results folder on another machine.")  # fmt: skip
def hardware(facts: PairFacts) -> Seen:
    """The comparison is one of machines."""
    servers = [(arm.name, arm.get(lambda r: r.hardware)) for arm in (facts.a, facts.b)]
    blocks = [(f"{c.cell.key} block {c.block} of {c.arm}", c.hardware) for c in (*facts.blocks_a, *facts.blocks_b)]
    devices: dict[str, str] = {}
    for where, names in [(where, seen.names) for where, seen in (*servers, *blocks) if seen]:
        devices.setdefault(", ".join(dict.fromkeys(names) if facts.may_differ("gpus") else names), where)
    if len(devices) < 2:  # two names decide, whether or not all are known
        facts.a.need(lambda r: r.hardware)
        facts.b.need(lambda r: r.hardware)
    return Seen(len(devices) > 1, "; ".join(f"{names} ({where})" for names, where in devices.items()))


@guard("pair", "warn", title="Prompt lengths differ",
       detection="mean prompt tokens per request differ by more than {limit:%} in a cell",
       remedy="Use the same prompts and tokenizer.")  # fmt: skip
def prompt_length(facts: PairFacts, *, limit: float = 0.02) -> Seen:
    """The arms had different work to read."""
    return _lengths(facts, "tokens_in", limit)


@guard("pair", "fail", title="Answer lengths differ",
       detection="mean output tokens per request differ by more than {limit:%} in a cell",
       remedy="Leave ignore_eos on for capacity.")  # fmt: skip
def answer_length(facts: PairFacts, *, limit: float = 0.01) -> Seen:
    """Different output lengths make E2E and $/request incomparable."""
    return _lengths(facts, "tokens_out", limit)


def _lengths(facts: PairFacts, name: str, limit: float) -> Seen:
    worst, text = 0.0, "no cell in common"
    for cell, (a, b) in facts.cells().items():
        if not b:
            continue
        x, y = _per_request(a, name), _per_request(b, name)
        off = abs(x - y) / max(x, y, 1e-9)
        if off >= worst:
            worst, text = off, f"{cell.key}: {x:.1f} against {y:.1f} {name} per request"
    return Seen(worst > limit, text)


def _per_request(blocks: Sequence[BlockContext], name: str) -> float:
    """Mean tokens per successful request. Raises Missing."""
    tokens = sum(metric(c, name) for c in blocks)
    answered = sum(metric(c, "n") - metric(c, "failures") for c in blocks)
    if answered <= 0:
        raise Missing(f"metrics.{name} of no request is known")
    return tokens / answered


@guard("pair", "fail", title="Configuration changed between blocks",
       detection="more than one system_fingerprint, or more than one source_id (model files), "
                 "among the blocks of an arm",
       remedy="Measure all blocks of the cell again (-R measure_tuple).")  # fmt: skip
def fingerprint_drift(facts: PairFacts) -> Seen:
    """The blocks of one arm come from differently configured servers, or from other weights under the same name."""
    weights = [sorted({c.server.source_id for c in arm if c.server.source_id}) for arm in facts.arms]
    if any(len(ids) > 1 for ids in weights):
        return Seen(True, f"blocks with different model files: {' against '.join(map(', '.join, weights))}")
    prints = [sorted({p for c in arm for p in c.server.fingerprints}) for arm in facts.arms]
    if not all(prints):
        raise Missing("server.fingerprints are not known for both arms")
    return Seen(any(len(arm) > 1 for arm in prints), " against ".join(map(", ".join, prints)))


@guard("pair", "warn", title="One server restarted between blocks",
       detection="another number of process_start_times among the blocks of one arm than among those of the other",
       remedy="None needed; the CI gets wider, and more honest.")  # fmt: skip
def server_changed(facts: PairFacts) -> Seen:
    """Differences from start to start of one arm are part of the spread of the blocks, those of the other are not."""
    starts = [{c.server.process_start_time for c in arm} for arm in facts.arms]
    if any(None in arm for arm in starts):
        raise Missing("server.process_start_time is not known for every block")
    return Seen(len(starts[0]) != len(starts[1]), f"{len(starts[0])} and {len(starts[1])} starts of the servers")


@guard("pair", "warn", title="Arm by arm",
       detection="start times and lanes of the valid blocks: some pair is not next to each other in time on one lane",
       remedy="Use a lane that can sleep or keep models resident; measure both arms in one run.")  # fmt: skip
def not_interleaved(facts: PairFacts) -> Seen:
    """Slow drift of the machine cannot be told from a difference of the models."""
    pairs = {cell.key: pair_up(a, b) for cell, (a, b) in facts.cells().items()}
    judged = {cell: these for cell, these in pairs.items() if len(these) > 1}
    if not judged:
        raise Missing("no cell has two pairs of valid blocks, so no order can be seen")
    apart = {cell: these for cell, these in sorted(judged.items()) if not these.interleaved}
    ways = {
        "on different devices": [cell for cell, these in apart.items() if not these.same_lane],
        "arm by arm": [cell for cell, these in apart.items() if these.same_lane],
    }
    text = "; ".join(f"{way} in {', '.join(cells)}" for way, cells in ways.items() if cells)
    return Seen(bool(apart), text or "side by side in all cells")


@guard("pair", "warn", title="Drift of the baseline",
       detection="Theil-Sen slope of log throughput of the baseline above {limit_pct} % over the session, "
                 "Kendall p < {alpha}",
       remedy="Let the machine warm up first; look at clocks and temperature.")  # fmt: skip
def drift(facts: PairFacts, *, limit_pct: float = DRIFT_PCT, alpha: float = DRIFT_ALPHA) -> Seen:
    """The machine changed during the session. Interleaving cancels most of it; figures of single blocks do not."""
    cells = facts.cells().items()
    rows = [(cell, drift_of(cell, a, limit_pct=limit_pct, alpha=alpha)) for cell, (a, _) in cells]
    trends = [
        (row.flagged, abs(row.percent), _trend(cell, row.percent, row.p_value))
        for cell, row in rows
        if row and row.flagged is not None and row.percent is not None
    ]
    if not trends:
        raise Missing("no cell has 5 valid blocks of the baseline, so no trend can be tested")
    flagged, _, text = max(trends)
    return Seen(flagged, text)


def _trend(cell: Cell, percent: float, p: float | None) -> str:
    sure = "" if p is None else f" (p {p_value(p)})"
    return f"{cell.key}: {change(1 + percent / 100)} over the session{sure}"


@guard("pair", "warn", title="GPU clocks differ",
       detection="mean SM clock of the arms differs by more than {limit:%}",
       remedy="Lock the clocks if allowed; "
              "look at power and temperature (a heavier arm may be at its power cap).")  # fmt: skip
def clocks_differ(facts: PairFacts, *, limit: float = 0.03) -> Seen:
    """One arm ran at higher clocks than the other."""
    means = []
    for arm in facts.arms:
        clocks = [c.telemetry.sm_clock_mhz_mean for c in arm if c.telemetry.sm_clock_mhz_mean is not None]
        if len(clocks) < len(arm):
            raise Missing("telemetry.sm_clock_mhz_mean is not known for every block")
        means.append(sum(clocks) / len(clocks))
    off = abs(means[0] - means[1]) / max(means)
    return Seen(off > limit, f"mean SM clock {means[0]:.0f} against {means[1]:.0f} MHz")


@guard("pair", "warn", title="Memory equal for both",
       detection="weights of the variant not below {limit:%} of the baseline's, from the log",
       remedy="Compare weights_gib and kv_cache_tokens, not NVML's memory used; check not_quantized.")  # fmt: skip
def memory_breakdown(facts: PairFacts, *, limit: float = 0.95) -> Seen:
    """vLLM fills its share of the card whatever the model, so NVML shows no saving; weights and KV cache do."""
    arms = facts.a, facts.b
    # The log tells of one card; of a model on several each holds its part.
    base, variant = (
        arm.need(lambda r: r.memory.weights_gib) * plan.gpus
        for arm, plan in zip(arms, (facts.arm_a, facts.arm_b), strict=True)
    )
    caches = [arm.need(lambda r: r.memory.kv_cache_gib) for arm in arms]
    same_model = facts.a.get(lambda r: r.quantization.claimed) == facts.b.get(lambda r: r.quantization.claimed)
    text = f"weights {base:.2f} against {variant:.2f} GiB, KV cache {caches[0]:.2f} against {caches[1]:.2f} GiB"
    return Seen(variant > limit * base and not same_model, text)


# What may be declared to differ: whether it does, and what both have.


def _gpus(facts: PairFacts) -> Seen:
    a, b = facts.arm_a.gpus, facts.arm_b.gpus
    return Seen(a != b, f"{a}" if a == b else f"{a} against {b}")


def _speculative(facts: PairFacts) -> Seen:
    return facts.equal(lambda r: r.settings.speculative)


def _engine(facts: PairFacts) -> Seen:
    return facts.equal(lambda r: r.versions.vllm, lambda r: r.versions.torch)


def _max_model_len(facts: PairFacts) -> Seen:
    return facts.equal(lambda r: r.settings.max_model_len)


_DIFFERENCES: Final[Mapping[Factor, Callable[[PairFacts], Seen]]] = {
    "weights": _weights,
    "kv_cache": _kv_cache,
    "speculative": _speculative,
    "gpus": _gpus,
    "engine": _engine,
    "max_model_len": _max_model_len,
}


def _allowed(facts: PairFacts, factor: Factor) -> Seen:
    """What differs, which is bad unless it is declared."""
    seen = _DIFFERENCES[factor](facts)
    return Seen(seen.bad and not facts.may_differ(factor), seen.detail)
