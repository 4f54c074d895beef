"""What a judging model says of pairs of answers."""

from __future__ import annotations

from typing import ClassVar, Literal

from quantbench.records.base import Record
from quantbench.records.quality import Answer

Better = Literal["baseline", "variant", "tie"]


class JudgeSettings(Record, frozen=True, kw_only=True, tag_field="kind", tag="judge"):
    """How a suite of kind `judge` asks. url: an OpenAI-compatible server, with or without its /v1; model: its name
    there; key_env: the variable that holds its API key; items: the prompts whose answers it compares, as many as
    `limit`; thinking, thinking_tokens: as of suites of kind `answers`; template: file with the question to the judge;
    longest: characters of an answer that it is shown.
    """

    needs_baseline: ClassVar[bool] = True
    items: str
    limit: int | None = None
    thinking: bool | None = None
    thinking_tokens: int = 0
    url: str
    model: str
    key_env: str | None = None
    template: str = "config/prompts/judge.txt"
    max_tokens: int = 512
    longest: int = 8000
    concurrency: int = 4
    tries: int = 3
    timeout_s: float = 120.0


class Judgement(Record, frozen=True, kw_only=True):
    """One pair in both orders: who is better where the baseline is shown first, and where it is second; None: no word.

    In a control pair `variant` is the baseline's own repeat. identical: equal texts, not asked; cut: whose answer ends
    inside its thought, which loses without a question; fault: why there is no word.
    """

    id: str
    first: Better | None = None
    second: Better | None = None
    identical: bool = False
    cut: Literal["baseline", "variant"] | None = None
    fault: str = ""


class Judged(Record, frozen=True, kw_only=True):
    """All judgements of a pair of models. control: the baseline against its own repeat. version: hash of the question
    and of how it is asked; same_family: the judge is named like a judged model.
    """

    judge: str
    version: str
    baseline: str
    variant: str
    same_family: bool = False
    pairs: tuple[Judgement, ...]
    control: tuple[Judgement, ...] = ()


class JudgedAnswers(Record, frozen=True, kw_only=True):
    """`suites/{suite}/{model}.json` of a suite of kind `judge`: a model's answers, and of a variant what the judge said
    of them beside the baseline's. known_as: by what names and addresses the model could be its own judge.
    """

    answers: tuple[Answer, ...]
    known_as: tuple[str, ...] = ()
    judged: Judged | None = None
