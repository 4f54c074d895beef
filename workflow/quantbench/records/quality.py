"""What the answers say: `answers/{model}.json`, `quality.json`, `quality_details.json`."""

from __future__ import annotations

from typing import ClassVar, Literal

from quantbench.records.base import OpenRecord, Record
from quantbench.records.block import ServedWith

Change = Literal["worse", "better", "both pass", "both fail", "not run"]
CodeRun = Literal["run", "off", "no fence"]
"""Whether code in answers was run; if not, whether it was not wanted or could not be fenced in."""
Thought = Literal["none", "ended", "open"]
"""Whether an answer has a thought before it; open: it ends inside of it."""


class Repeat(OpenRecord, frozen=True, kw_only=True):
    """The same prompt asked again, at some concurrency: the floor of noise."""

    concurrency: int
    output: str
    finish_reason: str | None = None
    tokens: int = 0
    token_ids: tuple[int, ...]
    system_fingerprint: str | None = None


class Answer(OpenRecord, frozen=True, kw_only=True, rename={"kind": "class"}):
    """A greedy answer to one quality prompt; kind: its class. system_fingerprint: what the server says of itself;
    thought_opened: the chat template has written `<think>`, so the output begins in a thought; text_ids_sha256: of the
    ids of the prompt without the template; error: why there is no answer, empty if there is one.
    thought_opened: the chat template has written `<think>`, so the output begins in a thought. concurrency: prompts
    that were asked at a time, None where an earlier version did not say; thinking: `quality.thinking` as it was sent.
    """

    id: str
    kind: str
    prompt: str
    output: str
    finish_reason: str | None = None
    tokens: int
    token_ids: tuple[int, ...]
    system_fingerprint: str | None = None
    thought_opened: bool = False
    concurrency: int | None = None
    thinking: bool | None = None
    prompt_tokens: int | None = None
    prompt_token_ids_sha256: str | None = None
    text_ids_sha256: str | None = None
    error: str = ""
    again: tuple[Repeat, ...] = ()


class AnsweredWith(Record, frozen=True, kw_only=True):
    """`servers/{model}/answered_with.json`: what the answers depend on.

    concurrency: prompts asked at a time. floor: that of each repeat. thinking: what the chat template was told, None:
    nothing. thinking_tokens: tokens that an answer got for its thought, beside those of its prompt.
    """

    server: ServedWith
    prompts: str
    concurrency: int = 1
    floor: tuple[int, ...] = ()
    thinking: bool | None = None
    thinking_tokens: int = 0


class PlainPair(Record, frozen=True, kw_only=True):
    """An entry of `quality.json`."""

    prompt: str
    bf16_output: str
    quant_output: str


class CheckResult(Record, frozen=True, kw_only=True):
    """One check of one answer; ok: None if it was not run. `hard` marks a failure of the answer as such, not of its
    content.
    """

    type: str
    ok: bool | None
    detail: str
    hard: bool = False


class Side(Record, frozen=True, kw_only=True):
    """One model's answer to a prompt; passed: all its checks hold."""

    output: str
    passed: bool
    tokens: int
    finish_reason: str | None
    checks: tuple[CheckResult, ...]
    thought: Thought = "none"

    @property
    def failed(self) -> list[CheckResult]:
        """Checks that do not hold."""
        return [check for check in self.checks if check.ok is False]


class Item(Record, frozen=True, kw_only=True, rename={"kind": "class"}):
    """One prompt of a pair. kind: its class, such as "arithmetic" (`class` on disk); note: what a person wrote."""

    id: str
    kind: str
    prompt: str
    change: Change
    identical: bool
    same_input: bool
    first_divergence_token: int | None
    new_hard_failures: tuple[str, ...] = ()
    baseline: Side
    variant: Side
    note: str | None = None


class Passed(Record, frozen=True, kw_only=True):
    """A count for each side."""

    baseline: int
    variant: int


class ClassCount(Record, frozen=True, kw_only=True, rename={"kind": "class"}):
    """Prompts of one class, and how many of them each model passes."""

    kind: str
    prompts: int
    baseline: int
    variant: int


class Lengths(Record, frozen=True, kw_only=True):
    """Answer lengths in tokens; mean_ratio is geometric, variant / baseline."""

    baseline_tokens: int
    variant_tokens: int
    mean_ratio: float | None
    cut_at_max_tokens: Passed


class Thinking(Record, frozen=True, kw_only=True):
    """Whether the models think before they answer. declared: what the chat template was told (`quality.thinking`),
    None: nothing; thoughts: answers that have one; cut: those that ran into their limit inside of it, and never pass.
    """

    declared: bool | None = None
    thoughts: Passed
    cut: Passed


class Floor(Record, frozen=True, kw_only=True):
    """The baseline against itself: answers asked again, how many were the same, prompts lost or gained by chance."""

    measured: bool
    answers: int
    identical: int
    identical_share: float | None
    lost: tuple[str, ...] = ()
    gained: tuple[str, ...] = ()
    concurrency: tuple[int, ...] = ()


class QualityDetails(Record, frozen=True, kw_only=True):
    """`quality_details.json`: one variant against the baseline, prompt by prompt and together.

    What that means for a use is the gate's to say (decision.json).
    concurrency: most prompts that a side was asked at a time, None where that was not told.
    """

    retired: ClassVar = ("verdict", "uses", "rules")
    baseline: str
    variant: str
    prompts: int
    passed: Passed
    worse: tuple[str, ...]
    better: tuple[str, ...]
    classes: tuple[ClassCount, ...]
    identical: int
    identical_share: float | None
    median_first_divergence_token: float | None
    length: Lengths
    floor: Floor
    notes: tuple[str, ...] = ()
    code: CodeRun = "run"
    concurrency: int | None = None
    thinking: Thinking | None = None
    details: tuple[Item, ...]

    @property
    def not_run(self) -> list[str]:
        """Prompts that neither pass nor fail, as their code was not run."""
        return [item.id for item in self.details if item.change == "not run"]
