"""The samples that lm-eval logs: which metric decides an item, and two models' items side by side.

The rule: the first of `METRICS` that the task has and that is 0 or 1 for each item, through the first of `FILTERS`;
others come after these, in lm-eval's order. A suite's `metrics` names another one. A task without such a metric
(perplexity, ROUGE, F1) has no pass or fail per item, so nothing of it can be paired, and it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec import to_builtins
from msgspec.structs import replace

from quantbench.errors import QuantbenchError
from quantbench.quality.answers import said_of, thought_of
from quantbench.quality.pair import Pair, digest
from quantbench.quality.prompt_set import Prompt
from quantbench.records.lm_eval import LmEvalAnswers, LmEvalItem, LmEvalSettings
from quantbench.records.suite import Answered, Outcome, SuiteScore, SuiteSettings

METRICS: Final = (
    "passed",  # our own prompts as a task
    "prompt_level_strict_acc",  # ifeval: all instructions of a prompt are followed
    "acc_norm",  # the choice by likelihood per byte; what leaderboards take where a task has it
    "acc",
    "exact_match",
    "math_verify",
)
FILTERS: Final = (
    "flexible-extract",  # the answer, however it is dressed: the form is not what gsm8k asks for
    "custom-extract",
    "strict-match",
    "none",
)
CLASSES: Final = (
    ("gsm8k", "arithmetic"),
    ("ifeval", "instruction"),
    ("hendrycks_math", "arithmetic"),
    ("minerva_math", "arithmetic"),
    ("bbh", "reasoning"),
    ("arc", "fact"),
    ("mmlu", "fact"),
    ("triviaqa", "fact"),
    ("hellaswag", "reasoning"),
    ("winogrande", "reasoning"),
    ("mgsm", "second_language"),
    ("belebele", "second_language"),
)
"""Beginning of a task's name, and the class of its items: what the gate sorts uses by."""
Sample = Mapping[str, Any]


class Decides(NamedTuple):
    """The metric and the filter that decide pass or fail."""

    metric: str
    filter: str


def decides(task: str, samples: Sequence[Sample], named: str | None = None) -> Decides:
    """Which metric of which filter decides the items of a task. named: "metric,filter" or "metric" of the suite.

    Raises QuantbenchError for a task that has no metric of 0 or 1 per item.
    """
    offered = list(dict.fromkeys(Decides(m, s["filter"]) for s in samples for m in s["metrics"]))
    clear = [one for one in offered if all(_bit(s.get(one.metric)) is not None for s in _through(samples, one.filter))]
    shown = ", ".join(f"{one.metric},{one.filter}" for one in offered)
    if named:
        metric, _, by = named.partition(",")
        fitting = [one for one in offered if one.metric == metric and by in ("", one.filter)]
        if not fitting:
            raise QuantbenchError(f"metrics.{task}: {named} is none of {shown}", remedy="name one of these")
        clear, known = [one for one in fitting if one in clear], fitting
    else:
        known = clear = [one for one in clear if one.metric in METRICS]
    if not clear:
        what = f"{known[0].metric} of task {task}" if known else f"none of the metrics of task {task} ({shown})"
        verb = "is not" if known else "is known to be"
        raise QuantbenchError(
            f"{what} {verb} 0 or 1 for each item, so nothing could be paired",
            remedy=f"name another in metrics.{task} (metric,filter), or leave the task out",
        )
    return min(clear, key=lambda one: (_place(METRICS, one.metric), _place(FILTERS, one.filter)))


def _place(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


def _bit(value: object) -> bool | None:
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def _through(samples: Sequence[Sample], by: str) -> list[Sample]:
    return [sample for sample in samples if sample["filter"] == by]


def items(task: str, samples: Sequence[Sample], by: Decides, classes: Mapping[str, str]) -> list[LmEvalItem]:
    """The items of a task in its order; ids are `task/id` of the document, or its number where it has none.

    Raises QuantbenchError when an item is there twice.
    """
    found: dict[str, LmEvalItem] = {}
    for sample in _through(samples, by.filter):
        doc, asked = sample["doc"], sample["quantbench"]
        own = doc.get("id") if isinstance(doc, dict) else None
        name = f"{task}/{own if isinstance(own, str) and own else sample['doc_id']}"
        if name in found:
            raise QuantbenchError(f"task {task} has the item {name} twice", remedy="give each its own id")
        found[name] = LmEvalItem(
            id=name,
            task=task,
            doc_hash=sample["doc_hash"],
            kind=_class(task, doc, classes),
            cluster=str(doc.get("cluster") or "") if isinstance(doc, dict) else "",
            # Some metrics pass an empty answer, which is all that a cut thought leaves.
            passed=bool(_bit(sample[by.metric])) and not asked.get("in_thought", False),
            tokens=asked["tokens"],
            cut=asked["cut"],
            in_thought=asked.get("in_thought", False),
            prompt_ids_sha256=asked["prompt_ids_sha256"],
        )
    return list(found.values())


def _class(task: str, doc: object, classes: Mapping[str, str]) -> str:
    """The suite's word, then the document's own class, then the table's, then the task's name."""
    own = doc.get("class") if isinstance(doc, dict) else None
    table = (kind for beginning, kind in CLASSES if task.startswith(beginning))
    return classes.get(task) or (own if isinstance(own, str) and own else None) or next(table, task)


def asks(settings: SuiteSettings, items: Sequence[Prompt]) -> Any:
    """All that one model's items and their passes depend on: the checks of a prompt file are run there, too."""
    assert isinstance(settings, LmEvalSettings)
    asked = to_builtins(settings)
    others = ("concurrency", "classes", "thinking", "thinking_tokens")
    told = said_of(thought_of(settings))
    return [{key: value for key, value in asked.items() if key not in others}, list(items), *told]


def score_pair(pair: Pair) -> SuiteScore:
    """`score` of what was collected of a pair."""
    (first,), (second,) = pair.baseline.collected, pair.variant.collected
    return replace(score(pair.suite, first, second), version=digest(asks(pair.settings, pair.items)))


def score(suite: str, baseline: LmEvalAnswers, variant: LmEvalAnswers) -> SuiteScore:
    """The pair, item by item. Other token ids on both sides are said per item (`same_input`).

    Raises QuantbenchError when the two were not asked the same items in the same way.
    """
    names = f"{baseline.model} and {variant.model}"
    remedy = f"delete the suite's files of both models (suites/{suite}/) and run again"
    if baseline.version != variant.version:
        raise QuantbenchError(f"suite {suite}: {names} were not asked in the same way", remedy=remedy)
    ours, theirs = ({item.id: item for item in answers.items} for answers in (baseline, variant))
    if ours.keys() != theirs.keys():
        odd = sorted(ours.keys() ^ theirs.keys())
        raise QuantbenchError(f"suite {suite}: {names} have other items ({', '.join(odd[:5])}, …)", remedy=remedy)
    if other := [id_ for id_, item in ours.items() if item.doc_hash != theirs[id_].doc_hash]:
        raise QuantbenchError(f"suite {suite}: {other[0]} holds other data for {names}", remedy=remedy)
    again = [{item.id: item for item in one} for one in baseline.again]
    outcomes = tuple(
        Outcome(
            id=id_,
            kind=item.kind,
            cluster=item.cluster,
            baseline=_answered(item),
            variant=_answered(theirs[id_]),
            again=tuple(_answered(one[id_]) for one in again if id_ in one),
            same_input=item.prompt_ids_sha256 == theirs[id_].prompt_ids_sha256,
        )
        for id_, item in ours.items()
    )
    return SuiteScore(
        suite=suite,
        kind="lm_eval",
        version=baseline.version,
        baseline=baseline.model,
        variant=variant.model,
        outcomes=outcomes,
    )


def _answered(item: LmEvalItem) -> Answered:
    return Answered(passed=item.passed, tokens=item.tokens, cut=item.cut, in_thought=item.in_thought)
