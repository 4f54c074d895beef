"""The kinds of suites, without their asking: what one asks of its items, how it is read, and its score of a pair.

How each asks a server is in `quality.collect`, apart so that a change there judges nothing anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from quantbench.errors import QuantbenchError
from quantbench.quality import answers, judgements, likelihood, lm_eval_samples, prompt_set
from quantbench.quality.pair import Pair, digest
from quantbench.quality.prompt_set import Prompt
from quantbench.records.judge import JudgedAnswers
from quantbench.records.likelihood import Likelihoods
from quantbench.records.lm_eval import LmEvalAnswers
from quantbench.records.quality import Answer
from quantbench.records.suite import LikelihoodSettings, SuiteKind, SuiteScore, SuiteSettings, items_file, kind_of


@dataclass(frozen=True)
class Kind:
    """A kind of suite.

    collected: what a collection is. asks: all that a server is asked, as plain data: where it changes, the
    suite is collected again. score: of a pair, from kept files alone.
    """

    collected: type[list[Any]]
    asks: Callable[[SuiteSettings, Sequence[Prompt]], Any]
    score: Callable[[Pair], SuiteScore]


KINDS: Final[Mapping[SuiteKind, Kind]] = {
    "answers": Kind(list[Answer], answers.asks, answers.score),
    "likelihood": Kind(list[Likelihoods], likelihood.asks, likelihood.score_pair),
    "lm_eval": Kind(list[LmEvalAnswers], lm_eval_samples.asks, lm_eval_samples.score_pair),
    "judge": Kind(list[JudgedAnswers], judgements.asks, judgements.score_pair),
}
"""By `kind`. Here, and in `collect.KINDS`, a kind is plugged in; its settings are in `records.suite`."""


def of(settings: SuiteSettings) -> Kind:
    """The kind of a suite. Raises QuantbenchError for one that this version cannot ask."""
    name = kind_of(settings)
    if name not in KINDS:
        raise QuantbenchError(f"suites of kind {name} cannot be asked", remedy=f"use one of {', '.join(KINDS)}")
    return KINDS[name]


def items(settings: SuiteSettings, text: str) -> list[Prompt]:
    """The items that a suite asks, of its file with this text: up to its level and its limit. None of a kind without a
    file."""
    path = items_file(settings)
    if not path:
        return []
    limit = settings.prompts if isinstance(settings, LikelihoodSettings) else getattr(settings, "limit", None)
    level = getattr(settings, "max_level", None)
    found = prompt_set.chosen(prompt_set.parse(text, path), limit, level)
    if not found:
        raise QuantbenchError(f"{path} has no item up to level {level}", remedy="raise max_level, or leave it out")
    return found


def version(settings: SuiteSettings, asked: Sequence[Prompt]) -> str:
    """Names what is asked, by its contents."""
    return digest(of(settings).asks(settings, asked))
