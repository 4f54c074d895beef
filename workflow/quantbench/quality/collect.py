"""The kinds of suites as they ask a server; what they make of it is in `quality.suites`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import structs, to_builtins

from quantbench.errors import QuantbenchError
from quantbench.quality import (
    answers,
    ask,
    ask_likelihood,
    judge_model,
    judgements,
    likelihood,
    lm_eval,
    lm_eval_samples,
)
from quantbench.quality.asked import Asked, Server
from quantbench.quality.pair import digest
from quantbench.records.base import Record, convert
from quantbench.records.judge import Judged, JudgedAnswers, JudgeSettings
from quantbench.records.likelihood import Likelihoods
from quantbench.records.lm_eval import LmEvalAnswers, LmEvalSettings
from quantbench.records.quality import Answer
from quantbench.records.suite import AnswersSettings, LikelihoodSettings, SuiteKind, kind_of

SPARE: Final = 0.05
"""Share of a suite's items that may get no answer: more, and it is the server that fails and not an item."""


def collect_answers(asked: Asked) -> list[Answer]:
    """Greedy answers to all items; one without an answer says why (`error`), and counts for neither side."""
    assert isinstance(asked.settings, AnswersSettings)
    passes, failed = [asked.settings.concurrency, *asked.floor], dict[str, str]()
    thought = answers.thought_of(asked.settings)
    if any(name not in asked.kept for name in answers.keys(asked.items, passes, thought)):
        with asked.server() as server:
            failed = _filled(asked, server, passes, thought)
    return answers.assembled(asked.items, passes, asked.kept, failed, thought)


def _filled(asked: Asked, server: Server, passes: Sequence[int], thought: answers.Thought) -> dict[str, str]:
    """Ask for each answer that is not kept: {id of an item without one: why}."""
    url, name, key = server.url, server.name, server.key
    return ask.fill(url, name, asked.items, passes, asked.kept, key=key, spare=SPARE, thought=thought)


def collect_likelihoods(asked: Asked) -> list[Likelihoods]:
    """What one model says of the baseline's texts, as the only entry; reply by reply it is kept, text by text asked."""
    settings = asked.settings
    assert isinstance(settings, LikelihoodSettings)
    baseline: Likelihoods | None = asked.baseline[0] if asked.baseline else None
    names = likelihood.names(settings, asked.items, baseline)
    missing = [item for item in asked.items if names[item["id"]] not in asked.kept]
    if missing:
        with asked.server() as server:
            found = ask_likelihood.collect(
                server.url,
                server.name,
                missing,
                tokens=settings.tokens,
                concurrency=settings.concurrency,
                baseline=baseline,
                key=server.key,
                thought=answers.Thought(settings.thinking),
                said=asked.kept,
            )
        for name, part in likelihood.parts(found).items():
            asked.kept[names[name]] = part
    return [likelihood.whole([asked.kept[name] for name in names.values()])]


def collect_lm_eval(asked: Asked) -> list[LmEvalAnswers]:
    """What lm-eval makes of one model's answers, as the only entry; it asks all of a suite's tasks or none."""
    assert isinstance(asked.settings, LmEvalSettings)
    name = digest([lm_eval_samples.asks(asked.settings, asked.items), list(asked.floor)])
    if name not in asked.kept:
        with asked.server() as server:
            found = lm_eval.collect(
                server.url,
                server.name,
                server.key,
                asked.settings,
                asked.log,
                python=asked.lmeval_python,
                name=asked.model,
                again=asked.floor,
            )
        asked.kept[name] = to_builtins(found)
    return [convert(asked.kept[name], LmEvalAnswers)]


def collect_judged(asked: Asked) -> list[JudgedAnswers]:
    """One model's answers, and of a variant's what the judge says of them beside the baseline's, as the only entry."""
    settings = asked.settings
    assert isinstance(settings, JudgeSettings)
    passes, known, failed = [settings.concurrency, *asked.floor], digest(["known as", asked.model]), dict[str, str]()
    thought = answers.thought_of(settings)
    if known not in asked.kept or any(name not in asked.kept for name in answers.keys(asked.items, passes, thought)):
        with asked.server() as server:
            failed = _filled(asked, server, passes, thought)
            asked.kept[known] = [server.name, server.url]
    found = answers.assembled(asked.items, passes, asked.kept, failed, thought)
    own = JudgedAnswers(answers=tuple(found), known_as=tuple(asked.kept[known]))
    if not asked.baseline:
        return [own]
    (base,) = asked.baseline
    name = digest([judgements.asks(settings, asked.items), [[a.output for a in side.answers] for side in (base, own)]])
    if name not in asked.kept:
        said = judge_model.collect(
            (asked.baseline_name, base.answers),
            (asked.model, own.answers),
            {asked.baseline_name: base.known_as, asked.model: own.known_as},
            settings,
            _key(asked.suite, settings),
            asked.log,
        )
        asked.kept[name] = to_builtins(said)
    return [structs.replace(own, judged=convert(asked.kept[name], Judged))]


def _key(suite: str, settings: JudgeSettings) -> str | None:
    """The judge's own key, where it wants one."""
    if not settings.key_env:
        return None
    key = os.environ.get(settings.key_env, "").strip()
    if not key:
        raise QuantbenchError(
            f"suite {suite}: the variable {settings.key_env} that should hold the judge's API key is empty",
            remedy=f"export {settings.key_env}, or leave quality.suites.{suite}.key_env out",
        )
    return key


KINDS: Final[Mapping[SuiteKind, Callable[[Asked], Sequence[Record]]]] = {
    "answers": collect_answers,
    "likelihood": collect_likelihoods,
    "lm_eval": collect_lm_eval,
    "judge": collect_judged,
}
"""By `kind`, as in `suites.KINDS`."""


def collect(asked: Asked) -> Sequence[Record]:
    """Ask what the suite asks, as far as it is not kept. Raises QuantbenchError where a server cannot be asked."""
    return KINDS[kind_of(asked.settings)](asked)
