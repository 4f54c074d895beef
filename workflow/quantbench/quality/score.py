"""The answers of a pair, prompt by prompt: which got worse, which better, where they part.

Greedy answers are compared. A prompt is passed when all its checks hold. The floor is the baseline asked again: as much
differs by chance. What it means for a use is the gate's to say (quality/gate.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Final, NamedTuple

from msgspec.structs import replace

from quantbench.errors import QuantbenchError
from quantbench.quality.answers import checked, whole
from quantbench.quality.checks import CodeRunner, thought
from quantbench.quality.prompt_set import Prompt
from quantbench.records.quality import (
    Answer,
    Change,
    CheckResult,
    ClassCount,
    CodeRun,
    Floor,
    Item,
    Lengths,
    Passed,
    PlainPair,
    QualityDetails,
    Side,
    Thinking,
)

CHANGES: Final[dict[tuple[bool, bool], Change]] = {
    (True, True): "both pass",
    (True, False): "worse",
    (False, True): "better",
    (False, False): "both fail",
}
"""By whether the baseline passes and whether the variant does."""


class Asked(NamedTuple):
    """A prompt that the baseline was asked again: the same tokens as at first, passed then, passed now."""

    id: str
    concurrency: int
    identical: bool
    first_pass: bool
    again_pass: bool


def passed(results: Sequence[CheckResult]) -> bool:
    """All checks hold. One that was not run does not, so its prompt counts for neither side."""
    return all(result.ok for result in results)


def first_divergence(a: Sequence[int], b: Sequence[int]) -> int | None:
    """Index of the first token that differs (or that only one has); None for equal sequences."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return None if len(a) == len(b) else min(len(a), len(b))


def compare(
    kind: str,
    baseline: tuple[Answer, Sequence[CheckResult]],
    variant: tuple[Answer, Sequence[CheckResult]],
    note: str | None = None,
) -> Item:
    """One prompt of the pair. kind: its class; baseline, variant: the answers and their checks."""
    (first, was), (second, now) = baseline, variant
    old = {result.type for result in was if result.hard and not result.ok}
    not_run = any(result.ok is None for result in (*was, *now))
    return Item(
        id=first.id,
        kind=kind,
        prompt=first.prompt,
        change="not run" if not_run else CHANGES[passed(was), passed(now)],
        identical=first.output == second.output,
        same_input=first.prompt_token_ids_sha256 == second.prompt_token_ids_sha256,
        first_divergence_token=first_divergence(first.token_ids, second.token_ids),
        new_hard_failures=tuple(r.type for r in now if r.hard and not r.ok and r.type not in old),
        baseline=_side(first, was),
        variant=_side(second, now),
        note=note,
    )


def _side(answer: Answer, results: Sequence[CheckResult]) -> Side:
    return Side(
        output=answer.output,
        passed=passed(results),
        tokens=answer.tokens,
        finish_reason=answer.finish_reason,
        checks=tuple(results),
        thought=thought(whole(answer, answer.output)),
    )


def floor_of(repeats: Sequence[Asked]) -> Floor:
    """The baseline against itself, from every prompt that was asked again."""
    n = len(repeats)
    same = sum(entry.identical for entry in repeats)
    return Floor(
        measured=n > 0,
        answers=n,
        identical=same,
        identical_share=same / n if n else None,
        lost=tuple(sorted({entry.id for entry in repeats if entry.first_pass and not entry.again_pass})),
        gained=tuple(sorted({entry.id for entry in repeats if entry.again_pass and not entry.first_pass})),
        concurrency=tuple(sorted({entry.concurrency for entry in repeats})),
    )


def plain(baseline: Sequence[Answer], variant: Sequence[Answer]) -> list[PlainPair]:
    """What `quality.json` holds."""
    return [
        PlainPair(prompt=a.prompt, bf16_output=a.output, quant_output=b.output)
        for a, b in zip(baseline, variant, strict=True)
    ]


def details(
    prompts: Sequence[Prompt],
    baseline: tuple[str, Sequence[Answer]],
    variant: tuple[str, Sequence[Answer]],
    notes: Mapping[str, str],
    run_code: CodeRunner | None,
) -> QualityDetails:
    """What `quality_details.json` holds. `baseline` and `variant` are (name, answers).

    `notes` keys: a prompt id, `variant/prompt id`, or a variant. `run_code`: None runs no code.

    Raises QuantbenchError when the answers do not belong to the prompts.
    """
    ids = [prompt["id"] for prompt in prompts]
    for name, answers in (baseline, variant):
        if [answer.id for answer in answers] != ids:
            raise QuantbenchError(
                f"the answers of {name} belong to another prompt file", remedy="delete them and rerun"
            )
    items = [
        compare(
            prompt["class"],
            (a, checked(prompt, a, a.output, run_code)),
            (b, checked(prompt, b, b.output, run_code)),
            notes.get(f"{variant[0]}/{prompt['id']}") or notes.get(prompt["id"]),
        )
        for prompt, a, b in zip(prompts, baseline[1], variant[1], strict=True)
    ]
    about = [notes[variant[0]]] if variant[0] in notes else []
    floor = floor_of(list(_repeats(prompts, baseline[1], run_code)))
    not_run: CodeRun = "off" if run_code is None else "no fence"
    judged = score(items, floor, baseline=baseline[0], variant=variant[0], notes=about, not_run=not_run)
    both = [*baseline[1], *variant[1]]
    told = [answer.concurrency for answer in both if answer.concurrency is not None]
    return replace(judged, concurrency=max(told, default=None), thinking=_thinking(items, both))


def _thinking(items: Sequence[Item], answers: Sequence[Answer]) -> Thinking:
    """What was declared: what every answer was asked with; nothing where they differ."""
    told = {answer.thinking for answer in answers}

    def count(holds: Callable[[Side], bool]) -> Passed:
        return Passed(
            baseline=sum(holds(item.baseline) for item in items), variant=sum(holds(item.variant) for item in items)
        )

    return Thinking(
        declared=told.pop() if len(told) == 1 else None,
        thoughts=count(lambda side: side.thought != "none"),
        cut=count(lambda side: side.thought == "open" and side.finish_reason == "length"),
    )


def _repeats(prompts: Sequence[Prompt], baseline: Sequence[Answer], run_code: CodeRunner | None) -> Iterator[Asked]:
    """The baseline against itself, per prompt and repeat. Equal answers are checked once."""
    for prompt, answer in zip(prompts, baseline, strict=True):
        outcome = passed(checked(prompt, answer, answer.output, run_code))
        for again in answer.again:
            same = again.token_ids == answer.token_ids
            passes = outcome if same else passed(checked(prompt, answer, again.output, run_code))
            yield Asked(prompt["id"], again.concurrency, same, outcome, passes)


def score(
    items: Sequence[Item],
    floor: Floor,
    *,
    baseline: str,
    variant: str,
    notes: Sequence[str] = (),
    not_run: CodeRun = "off",
) -> QualityDetails:
    """All that is known about one pair; `items` come from `compare`.

    not_run: why code was not run, where an item says that it was not.
    """
    same = sum(item.identical for item in items)
    forks = [item.first_divergence_token for item in items if item.first_divergence_token is not None]
    return QualityDetails(
        baseline=baseline,
        variant=variant,
        prompts=len(items),
        passed=_passed(items),
        worse=tuple(item.id for item in items if item.change == "worse"),
        better=tuple(item.id for item in items if item.change == "better"),
        classes=_classes(items),
        identical=same,
        identical_share=same / len(items) if items else None,
        median_first_divergence_token=median(forks) if forks else None,
        length=_lengths(items),
        floor=floor,
        notes=tuple(notes),
        code=not_run if any(item.change == "not run" for item in items) else "run",
        details=tuple(items),
    )


def _passed(items: Sequence[Item]) -> Passed:
    return Passed(
        baseline=sum(item.baseline.passed for item in items), variant=sum(item.variant.passed for item in items)
    )


def _classes(items: Sequence[Item]) -> tuple[ClassCount, ...]:
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.kind, []).append(item)
    counts = {kind: _passed(group) for kind, group in groups.items()}
    return tuple(
        ClassCount(kind=kind, prompts=len(groups[kind]), baseline=count.baseline, variant=count.variant)
        for kind, count in counts.items()
    )


def _lengths(items: Sequence[Item]) -> Lengths:
    pairs = [(item.baseline.tokens, item.variant.tokens) for item in items]
    logs = [math.log(b / a) for a, b in pairs if a and b]
    return Lengths(
        baseline_tokens=sum(a for a, _ in pairs),
        variant_tokens=sum(b for _, b in pairs),
        mean_ratio=math.exp(sum(logs) / len(logs)) if logs else None,
        cut_at_max_tokens=Passed(
            baseline=sum(item.baseline.finish_reason == "length" for item in items),
            variant=sum(item.variant.finish_reason == "length" for item in items),
        ),
    )
