"""The suites of the quality part: their settings, and what they say of a variant against the baseline, item by item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, cast, get_args

from quantbench.records.base import Record, convert
from quantbench.records.block import ServedWith
from quantbench.records.finding import Finding
from quantbench.records.judge import JudgeSettings
from quantbench.records.lm_eval import LmEvalSettings

SuiteKind = Literal["answers", "likelihood", "lm_eval", "judge"]
"""How a suite asks: prompts with checks, token likelihoods, lm-eval's tasks, a judging model."""
GateUse = Literal["chat", "batch", "facts", "reasoning", "code", "structured", "summaries", "languages"]
GateStatus = Literal["fine", "not acceptable", "insufficient evidence"]
PROMPTS: Final = "prompts"
"""The suite of `quality.prompts`."""


class AnswersSettings(Record, frozen=True, kw_only=True, tag_field="kind", tag="answers"):
    """Prompts with checks, answered greedily. max_level: none above it; limit: how many of them, null for all;
    concurrency: how many at a time; floor_concurrency, floor_repeat: the baseline answers again at that concurrency,
    and once more as at first.
    thinking: what models are told of it, None: nothing; thinking_tokens: tokens for a thought, beside an item's own.
    """

    needs_baseline: ClassVar[bool] = False
    items: str
    max_level: int | None = None
    limit: int | None = None
    concurrency: int
    floor_concurrency: int
    floor_repeat: bool
    thinking: bool | None = None
    thinking_tokens: int = 0


class LikelihoodSettings(Record, frozen=True, kw_only=True, tag_field="kind", tag="likelihood"):
    """Text that the baseline writes to the first `prompts` of the items, up to `tokens` each, scored on each server.

    concurrency: texts at a time; thinking: what models are told of it, None: nothing.
    """

    needs_baseline: ClassVar[bool] = True
    items: str
    prompts: int = 80
    tokens: int = 128
    concurrency: int = 8
    thinking: bool | None = None


SuiteSettings = AnswersSettings | LikelihoodSettings | LmEvalSettings | JudgeSettings
"""`quality.suites.*`, by kind. needs_baseline: a variant is asked about what the baseline's collection has."""
SETTINGS: Final = {str(kind.__struct_config__.tag): kind for kind in get_args(SuiteSettings)}
"""By `kind`."""


def kind_of(settings: SuiteSettings) -> SuiteKind:
    """The kind of a suite."""
    return cast(SuiteKind, settings.__struct_config__.tag)


def items_file(settings: SuiteSettings) -> str | None:
    """The prompt file of a suite; None of a kind that has none."""
    return getattr(settings, "items", None)


def settings_of(value: Mapping[str, Any]) -> SuiteSettings:
    """Settings from plain data. Raises msgspec.ValidationError naming the key."""
    settings: SuiteSettings = convert(value, SETTINGS[value["kind"]])
    return settings


class CollectedWith(Record, frozen=True, kw_only=True):
    """`suites/{suite}/{model}.with.json`: what a collection depends on. version: hash of what is asked; floor: the
    concurrency of each repeat.
    """

    server: ServedWith
    version: str
    floor: tuple[int, ...] = ()


class KeptItem(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A line of `suites/{suite}/{model}.kept.jsonl`: a server, or an answer of the last server above it. key: hash of
    what was asked.
    """

    server: ServedWith | None = None
    key: str = ""
    value: Any = None


class Estimate(Record, frozen=True, kw_only=True):
    """A mean over prompts with its two-sided 95 % interval; low, high: None where the data cannot support one."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int


class Answered(Record, frozen=True, kw_only=True):
    """What one side did with an item. passed: all its checks hold, None if one was not run; hard: hard checks that
    fail (empty, garbled, loop); tokens: length of the answer; cut: it ran into max_tokens; in_thought: it ends inside a
    thought.
    """

    passed: bool | None
    hard: tuple[str, ...] = ()
    tokens: int = 0
    cut: bool = False
    in_thought: bool = False


class Outcome(Record, frozen=True, kw_only=True, rename={"kind": "class"}):
    """One item of a pair. kind: its class; cluster: items that share a passage or a template carry the same, empty
    stands for alone; again: the baseline asked again; same_input: both got identical token ids.
    """

    id: str
    kind: str
    cluster: str = ""
    baseline: Answered
    variant: Answered
    again: tuple[Answered, ...] = ()
    same_input: bool = True


class Likelihood(Record, frozen=True, kw_only=True):
    """How far the variant's next-token distribution is from the baseline's, on text that the baseline wrote.

    kl: forward KL(baseline || variant) in nats per token over the full vocabulary; kl_lower_bound: what the shared top
    of both lists alone shows, always too low; kl_p99: 99 % quantile over positions; top1: share of positions with the
    same most likely token; near_ties: share of positions that differ there with a margin of the baseline under 0.05;
    mean_dp, rms_dp: change of the probability of the written token; ppl_ratio: variant / baseline, paired;
    first_divergence: median index of the first position with another most likely token.
    """

    prompts: int
    positions: int
    kl: Estimate
    kl_lower_bound: float
    kl_p99: float
    top1: Estimate
    near_ties: float
    mean_dp: Estimate
    rms_dp: float
    ppl_ratio: Estimate
    first_divergence: float | None = None


class Preference(Record, frozen=True, kw_only=True):
    """A judge's word on pairs of answers, each shown in both orders; what is not the same in both is a tie.

    false_preference: share of pairs of the baseline with itself that were no tie, of the `control` pairs whose texts
    differ. pairs: those with a word in both orders; identical: of them, equal texts, ties without a question; failed:
    pairs besides, without a word. share: variant's wins of the decided pairs, Clopper-Pearson. same_family: the judge
    is named like a judged model.
    """

    judge: str
    pairs: int
    baseline_wins: int
    variant_wins: int
    ties: int
    inconsistent: int
    false_preference: float | None = None
    control: int = 0
    identical: int = 0
    failed: int = 0
    share: Estimate | None = None
    same_family: bool = False


class SuiteScore(Record, frozen=True, kw_only=True):
    """`suites/{suite}/{variant}.score.json`: a suite's part of the evidence; parts that it has not are empty or None.

    version: hash of what was asked. likelihood_floor: the same of the baseline's own repetition. unanswered: items that
    a server gave no answer to; their outcomes have no `passed` on that side.
    """

    suite: str
    kind: SuiteKind
    version: str
    baseline: str
    variant: str
    outcomes: tuple[Outcome, ...] = ()
    unanswered: tuple[str, ...] = ()
    likelihood: Likelihood | None = None
    likelihood_floor: Likelihood | None = None
    preference: Preference | None = None


class GateVerdict(Record, frozen=True, kw_only=True):
    """The gate's word on one use.

    n: items of the use with an outcome on both sides; passed: those that the baseline passes; lost, gained: discordant
    items; loss: (lost - gained) / n, as a share, with its two-sided 90 % interval (low, high: one-sided 95 % each);
    margin: the loss that is held to be harmless; p: exact McNemar, after Holm's correction over the uses;
    relative: (lost - gained) by the items that either side passes, relative_high: its one-sided 95 % bound;
    smallest_loss: the loss that this n would have seen with a power of 80 %; needed: items that would decide, None
    where it is decided or no number would do. floor: loss of the baseline against its own repetition, None where it
    was not asked again. new_hard: items with an empty, garbled or looping answer of the variant alone.
    """

    use: GateUse
    status: GateStatus
    n: int
    passed: int
    lost: tuple[str, ...] = ()
    gained: tuple[str, ...] = ()
    loss: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float
    p: float | None = None
    relative: float | None = None
    relative_high: float | None = None
    smallest_loss: float | None = None
    needed: int | None = None
    floor: float | None = None
    new_hard: tuple[str, ...] = ()
    because: tuple[Finding, ...] = ()
