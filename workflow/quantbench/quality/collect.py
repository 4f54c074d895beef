"""The kinds of suites as they ask a server; what they make of it is in `quality.suites`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from quantbench.quality import answers, ask
from quantbench.quality.asked import Asked
from quantbench.records.base import Record
from quantbench.records.quality import Answer
from quantbench.records.suite import AnswersSettings, SuiteKind, kind_of

SPARE: Final = 0.05
"""Share of a suite's items that may get no answer: more, and it is the server that fails and not an item."""


def collect_answers(asked: Asked) -> list[Answer]:
    """Greedy answers to all items; one without an answer says why (`error`), and counts for neither side."""
    assert isinstance(asked.settings, AnswersSettings)
    passes, failed = [asked.settings.concurrency, *asked.floor], dict[str, str]()
    if any(name not in asked.kept for name in answers.keys(asked.items, passes)):
        with asked.server() as server:
            failed = ask.fill(
                server.url, server.name, asked.items, passes, asked.kept, key=server.key, spare=SPARE
            )  # fmt: skip
    return answers.assembled(asked.items, passes, asked.kept, failed)


KINDS: Final[Mapping[SuiteKind, Callable[[Asked], Sequence[Record]]]] = {
    "answers": collect_answers,
}
"""By `kind`, as in `suites.KINDS`."""


def collect(asked: Asked) -> Sequence[Record]:
    """Ask what the suite asks, as far as it is not kept. Raises QuantbenchError where a server cannot be asked."""
    return KINDS[kind_of(asked.settings)](asked)
