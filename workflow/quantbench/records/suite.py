"""What the suites of the quality part say of a pair of models, item by item, and the word of the gate per use."""

from __future__ import annotations

from typing import Literal

from quantbench.records.base import Record
from quantbench.records.finding import Finding

SuiteKind = Literal["answers", "likelihood", "lm_eval", "judge"]
"""How a suite asks: prompts with checks, token likelihoods, lm-eval's tasks, a judging model."""
GateUse = Literal["chat", "batch", "facts", "reasoning", "code", "structured", "summaries", "languages"]
GateStatus = Literal["fine", "not acceptable", "insufficient evidence"]


class Estimate(Record, frozen=True, kw_only=True):
    """A mean over prompts with its two-sided 95 % interval; low, high: None where the data cannot support one."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int


class Answered(Record, frozen=True, kw_only=True):
    """What one side did with an item. passed: all its checks hold, None if one was not run; hard: hard checks that
    fail (empty, garbled, loop); tokens: length of the answer; cut: it ran into max_tokens.
    """

    passed: bool | None
    hard: tuple[str, ...] = ()
    tokens: int = 0
    cut: bool = False


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

    version: hash of what was asked. likelihood_floor: the same of the baseline's own repetition.
    """

    suite: str
    kind: SuiteKind
    version: str
    baseline: str
    variant: str
    outcomes: tuple[Outcome, ...] = ()
    likelihood: Likelihood | None = None
    likelihood_floor: Likelihood | None = None
    preference: Preference | None = None


class GateVerdict(Record, frozen=True, kw_only=True):
    """The gate's word on one use.

    n: items of the use with an outcome on both sides; passed: those that the baseline passes; lost, gained: discordant
    items; loss: (lost - gained) / n, as a share, with its two-sided 90 % interval (low, high: one-sided 95 % each);
    margin: the loss that is held to be harmless; p: exact McNemar, after Holm's correction over the uses;
    smallest_loss: the loss that this n would have seen with a power of 80 %; needed: items that would decide, None
    where it is decided or no number would do.
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
    smallest_loss: float | None = None
    needed: int | None = None
    because: tuple[Finding, ...] = ()
