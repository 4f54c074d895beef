"""The kinds of suites as they ask a server; what they make of it is in `quality.suites`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from quantbench.quality import answers, ask, ask_likelihood, likelihood
from quantbench.quality.asked import Asked
from quantbench.records.base import Record
from quantbench.records.likelihood import Likelihoods
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
            failed = ask.fill(
                server.url,
                server.name,
                asked.items,
                passes,
                asked.kept,
                key=server.key,
                spare=SPARE,
                thought=thought,
            )
    return answers.assembled(asked.items, passes, asked.kept, failed, thought)


def collect_likelihoods(asked: Asked) -> list[Likelihoods]:
    """What one model says of the baseline's texts, as the only entry; text by text it is kept, and asked."""
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
            )
        for name, part in likelihood.parts(found).items():
            asked.kept[names[name]] = part
    return [likelihood.whole([asked.kept[name] for name in names.values()])]


KINDS: Final[Mapping[SuiteKind, Callable[[Asked], Sequence[Record]]]] = {
    "answers": collect_answers,
    "likelihood": collect_likelihoods,
}
"""By `kind`, as in `suites.KINDS`."""


def collect(asked: Asked) -> Sequence[Record]:
    """Ask what the suite asks, as far as it is not kept. Raises QuantbenchError where a server cannot be asked."""
    return KINDS[kind_of(asked.settings)](asked)
