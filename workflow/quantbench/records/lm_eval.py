"""What lm-eval says of one model: pass or fail per item of its tasks, and how it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from quantbench.records.base import Record


class LmEvalSettings(Record, frozen=True, kw_only=True, tag_field="kind", tag="lm_eval"):
    """How a suite of kind `lm_eval` asks.

    tasks: names of lm-eval's tasks, or of your own below `include_path` (a folder of YAML files). items: a prompt file
    of quantbench whose items become a task. limit: items per task, from the front. chat: apply the chat template.
    max_tokens: longest answer; None takes each task's own. thinking: what models are told of it, None: nothing;
    thinking_tokens: tokens for a thought, beside an answer's own. metrics: task to "metric,filter", where the rule of
    `quality/lm_eval_samples` is not wanted. classes: task to the class that the gate knows its items by.
    """

    needs_baseline: ClassVar[bool] = False
    tasks: tuple[str, ...] = ()
    items: str | None = None
    include_path: str | None = None
    limit: int | None = None
    num_fewshot: int | None = None
    chat: bool = True
    max_tokens: int | None = None
    thinking: bool | None = None
    thinking_tokens: int = 0
    concurrency: int = 8
    metrics: Mapping[str, str] = {}
    classes: Mapping[str, str] = {}


class LmEvalItem(Record, frozen=True, kw_only=True, rename={"kind": "class"}):
    """One item of a task. doc_hash: of its data, as lm-eval hashes it; cluster: items that share a passage or template;
    tokens, cut: of the answer, 0 and False where likelihoods were compared; in_thought: it ends inside a thought,
    and never passes; prompt_ids_sha256: of the token ids sent.
    """

    id: str
    task: str
    doc_hash: str
    kind: str
    cluster: str = ""
    passed: bool
    tokens: int = 0
    cut: bool = False
    in_thought: bool = False
    prompt_ids_sha256: str


class LmEvalTask(Record, frozen=True, kw_only=True):
    """A task as it was asked. metric, filter: what decides pass or fail; of: items that the task has."""

    name: str
    version: str
    metric: str
    filter: str
    num_fewshot: int
    items: int
    of: int


class LmEvalAnswers(Record, frozen=True, kw_only=True):
    """`suites/{suite}/{model}.json` of a suite of kind `lm_eval`. version: hash of what was asked and how; again: the
    same items asked once more, for the floor.
    """

    model: str
    version: str
    lm_eval: str
    tasks: tuple[LmEvalTask, ...]
    items: tuple[LmEvalItem, ...]
    again: tuple[tuple[LmEvalItem, ...], ...] = ()
