"""The kind `answers`: prompts that a model answers greedily, and what the checks say of a pair, item by item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from quantbench.errors import QuantbenchError
from quantbench.quality import checks
from quantbench.quality.checks import CodeRunner, run_checks
from quantbench.quality.pair import Pair, Side, digest
from quantbench.quality.prompt_set import Prompt, messages, shown
from quantbench.records.base import convert
from quantbench.records.judge import JudgeSettings
from quantbench.records.lm_eval import LmEvalSettings
from quantbench.records.quality import Answer, CheckResult
from quantbench.records.suite import PROMPTS, Answered, AnswersSettings, Outcome, SuiteScore, SuiteSettings

# Every field is set: a server fills what is missing from the model's generation_config.json.
GREEDY: Final[dict[str, Any]] = {
    "n": 1, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
    "presence_penalty": 0.0, "frequency_penalty": 0.0, "seed": 0, "min_tokens": 0, "ignore_eos": False,
    "stream": False, "return_token_ids": True,
}  # fmt: skip
SWITCHES: Final = ("enable_thinking", "thinking")
"""Names that chat templates have for it: Qwen, GLM and others; DeepSeek, Granite and Kimi. vLLM hands a template those
that it knows (0.32 looked at), and what a request says goes before `--default-chat-template-kwargs`."""
Reply = Mapping[str, Any]
"""What an `Answer`, or a `Repeat`, takes from one completion."""


class Thought(NamedTuple):
    """Whether models are told to think before they answer, None: they are told nothing; the tokens for it."""

    thinking: bool | None = None
    tokens: int = 0


UNTOLD: Final = Thought()


def asks(settings: SuiteSettings, items: Sequence[Prompt]) -> Any:
    """All that is asked of a server; neither checks nor names of items are part of it."""
    assert isinstance(settings, AnswersSettings)
    told = said_of(thought_of(settings))
    return [GREEDY, [[messages(item), item["max_tokens"]] for item in items], *told]


def thought_of(settings: AnswersSettings | JudgeSettings | LmEvalSettings) -> Thought:
    """What a suite tells of thinking."""
    return Thought(settings.thinking, settings.thinking_tokens if settings.thinking else 0)


def template_kwargs(thought: Thought) -> dict[str, bool]:
    """What a chat template is told, by all the names that it may have for it."""
    return {} if thought.thinking is None else dict.fromkeys(SWITCHES, thought.thinking)


def said_of(thought: Thought) -> list[Any]:
    """What names of answers say of it: nothing where nothing is told, as answers from before it could be are those."""
    return [] if thought == UNTOLD else [list(thought)]


def key(prompt: Prompt, number: int, concurrency: int, thought: Thought = UNTOLD) -> str:
    """Names one answer by what was asked. number: 0 for the first pass, whose concurrency does not count."""
    at_once = concurrency if number else None
    return digest([GREEDY, messages(prompt), prompt["max_tokens"], number, at_once, *said_of(thought)])


def keys(prompts: Sequence[Prompt], passes: Sequence[int], thought: Thought = UNTOLD) -> Iterator[str]:
    """The names of all answers. passes: the concurrency of the first one, then of each repeat."""
    return (key(prompt, number, at_once, thought) for number, at_once in enumerate(passes) for prompt in prompts)


def assembled(
    prompts: Sequence[Prompt],
    passes: Sequence[int],
    replies: Mapping[str, Reply],
    failed: Mapping[str, str],
    thought: Thought = UNTOLD,
) -> list[Answer]:
    """The answers in prompt order, from replies by `key`; failed: why a prompt has none, by its id."""
    return [_answer(prompt, passes, replies, failed, thought) for prompt in prompts]


def _answer(
    prompt: Prompt, passes: Sequence[int], replies: Mapping[str, Reply], failed: Mapping[str, str], thought: Thought
) -> Answer:
    own = {"id": prompt["id"], "class": prompt["class"], "prompt": shown(prompt)}
    first = replies.get(key(prompt, 0, passes[0], thought))
    if first is None:
        return convert({**own, "output": "", "tokens": 0, "token_ids": [], "error": failed[prompt["id"]]}, Answer)
    again = [
        {**reply, "concurrency": at_once}
        for number, at_once in enumerate(passes[1:], 1)
        if (reply := replies.get(key(prompt, number, at_once, thought)))
    ]
    return convert({**own, **first, "again": again}, Answer)


def checked(prompt: Prompt, answer: Answer, output: str, run_code: CodeRunner | None) -> list[CheckResult]:
    """The checks of one output."""
    return run_checks(whole(answer, output), prompt["checks"], run_code)


def whole(answer: Answer, output: str) -> str:
    """An output with what the template has written of it."""
    return ("<think>" if answer.thought_opened else "") + output


def score(pair: Pair) -> SuiteScore:
    """What the checks say of both sides.

    Raises QuantbenchError for collections of other items, and, but for the suite of `quality.prompts`, where the two
    sides were asked other token ids.
    """
    for side in (pair.baseline, pair.variant):
        if [answer.id for answer in side.collected] != [item["id"] for item in pair.items]:
            raise QuantbenchError(
                f"suite {pair.suite}: the answers of {side.model} belong to other items",
                remedy="delete them and run the same command again",
            )
    if pair.suite != PROMPTS:
        _need_same_ids(pair)
    sides = list(zip(pair.items, pair.baseline.collected, pair.variant.collected, strict=True))
    return SuiteScore(
        suite=pair.suite,
        kind="answers",
        version=digest(asks(pair.settings, pair.items)),
        baseline=pair.baseline.model,
        variant=pair.variant.model,
        outcomes=tuple(_outcome(item, a, b, pair.run_code) for item, a, b in sides),
        unanswered=tuple(item["id"] for item, a, b in sides if a.error or b.error),
    )


def _outcome(item: Prompt, baseline: Answer, variant: Answer, run_code: CodeRunner | None) -> Outcome:
    first = _answered(item, baseline, baseline, run_code)
    again = (
        first if repeat.token_ids == baseline.token_ids else _answered(item, baseline, repeat, run_code)
        for repeat in baseline.again
    )
    return Outcome(
        id=item["id"],
        kind=item["class"],
        cluster=item.get("cluster", ""),
        baseline=first,
        variant=_answered(item, variant, variant, run_code),
        again=tuple(again),
        same_input=baseline.prompt_token_ids_sha256 == variant.prompt_token_ids_sha256,
    )


def _answered(item: Prompt, answer: Answer, reply: Any, run_code: CodeRunner | None) -> Answered:
    """reply: the answer itself, or one of its repeats."""
    if answer.error:
        return Answered(passed=None)
    results = checked(item, answer, reply.output, run_code)
    return Answered(
        passed=None if any(result.ok is None for result in results) else all(result.ok for result in results),
        hard=tuple(result.type for result in results if result.hard and result.ok is False),
        tokens=reply.tokens,
        cut=reply.finish_reason == "length",
        in_thought=checks.thought(whole(answer, reply.output)) == "open",
    )


def _need_same_ids(pair: Pair) -> None:
    for a, b in zip(pair.baseline.collected, pair.variant.collected, strict=True):
        if a.error or b.error or a.prompt_token_ids_sha256 == b.prompt_token_ids_sha256:
            continue
        part = _part(a, b)
        raise QuantbenchError(
            f"suite {pair.suite}: {pair.baseline.model} and {pair.variant.model} did not get the same token ids: "
            f"their {part} differs (item {a.id}: {_count(pair.baseline, a)}, {_count(pair.variant, b)})",
            remedy=f"give both the same {part} (tokenizer files of the folder, --chat-template in server.args), "
            f"or leave the suite out: quality.suites.{pair.suite}: null",
        )


def _part(a: Answer, b: Answer) -> str:
    """What differs: the frame around a text whose own ids are equal is the template's."""
    if None in (a.text_ids_sha256, b.text_ids_sha256):
        return "chat template or tokenizer"
    return "chat template" if a.text_ids_sha256 == b.text_ids_sha256 else "tokenizer"


def _count(side: Side, answer: Answer) -> str:
    return f"{answer.prompt_tokens} tokens for {side.model}"
