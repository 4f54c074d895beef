"""What a judging model is shown, what its reply says, and what all its words together are worth. Information only.

Judges prefer a place, often the first, so each pair is shown in both orders, and a win counts only where both agree.
How often the judge prefers one of two answers of one and the same model is its false preference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import to_builtins
from msgspec.structs import replace

from quantbench.errors import QuantbenchError
from quantbench.quality import answers
from quantbench.quality.checks import answered
from quantbench.quality.pair import Pair, digest
from quantbench.quality.prompt_set import Prompt, messages
from quantbench.records.judge import Better, Judged, Judgement, JudgeSettings
from quantbench.records.suite import Estimate, Preference, SuiteScore, SuiteSettings
from quantbench.stats import share_limits

FIELDS: Final = ("question", "first", "second")
VERDICT: Final = re.compile(r"\[\[\s*(1|2|tie)\s*\]\]", re.IGNORECASE)
CUT: Final = "\n[… cut here for length]"
# Words of model names that say nothing of the family.
PLAIN: Final = frozenset((
    "instruct", "chat", "base", "model", "models", "hub", "awq", "gptq", "gguf", "dynamic", "quantized", "int", "wna",
    "nvfp", "mxfp", "preview", "latest", "mini", "small", "large", "turbo", "online", "variant", "baseline",
))  # fmt: skip


def check_template(text: str, name: str) -> None:
    """Raise QuantbenchError unless each of {question}, {first}, {second} is there once."""
    if odd := [field for field in FIELDS if text.count(f"{{{field}}}") != 1]:
        raise QuantbenchError(
            f"{name}: {', '.join(f'{{{field}}}' for field in odd)} must be in it once",
            remedy="config/prompts/judge.txt shows how",
        )


def question(template: str, prompt: str, first: str, second: str, longest: int) -> str:
    """What the judge is asked. All three go in at once: braces within an answer stay as they are."""
    shown = {"question": prompt, "first": _short(first, longest), "second": _short(second, longest)}
    return re.sub(r"\{(question|first|second)\}", lambda field: shown[field[1]], template)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest] + CUT


def word(reply: str) -> str | None:
    """The judge's last `[[…]]` behind its thought: "1", "2" or "tie"; None where it says none."""
    said = VERDICT.findall(answered(reply))
    return said[-1].lower() if said else None


def better(said: str, baseline_first: bool) -> Better:
    """Whom "1", "2" or "tie" means."""
    if said == "tie":
        return "tie"
    return "baseline" if (said == "1") == baseline_first else "variant"


def outcome(judgement: Judgement) -> Better | None:
    """Who is better: a tie unless both orders agree; None where a word is missing."""
    if judgement.identical:
        return "tie"
    if judgement.first is None or judgement.second is None:
        return None
    return judgement.first if judgement.first == judgement.second else "tie"


def asks(settings: SuiteSettings, items: Sequence[Prompt]) -> Any:
    """All that the models and the judge are asked, but for the text of the template."""
    assert isinstance(settings, JudgeSettings)
    asked = to_builtins(settings)
    judge = {key: asked[key] for key in ("url", "model", "template", "max_tokens", "longest")}
    told = answers.said_of(answers.thought_of(settings))
    return [judge, [[messages(item), item["max_tokens"]] for item in items], *told]


def score_pair(pair: Pair) -> SuiteScore:
    """`score` of what was collected of a pair."""
    (base,), (own,) = pair.baseline.collected, pair.variant.collected
    if own.judged is None:
        raise QuantbenchError(
            f"suite {pair.suite}: the judge said nothing of {pair.variant.model}",
            remedy="delete its file and run again",
        )
    without = tuple(a.id for a, b in zip(base.answers, own.answers, strict=True) if a.error or b.error)
    version = digest(asks(pair.settings, pair.items))
    return replace(score(pair.suite, own.judged), version=version, unanswered=without)


def score(suite: str, judged: Judged) -> SuiteScore:
    """The preference of a pair. It has no outcomes, so no gate can rest on it."""
    words = [outcome(one) for one in judged.pairs]
    wins = {side: words.count(side) for side in ("baseline", "variant", "tie")}
    control = [outcome(one) for one in judged.control if not one.identical]
    told = [one for one in control if one is not None]
    preference = Preference(
        judge=judged.judge,
        pairs=sum(wins.values()),
        baseline_wins=wins["baseline"],
        variant_wins=wins["variant"],
        ties=wins["tie"],
        inconsistent=sum(None not in (one.first, one.second) and one.first != one.second for one in judged.pairs),
        false_preference=sum(one != "tie" for one in told) / len(told) if told else None,
        control=len(told),
        identical=sum(one.identical for one in judged.pairs),
        failed=words.count(None),
        share=share(wins["variant"], wins["baseline"] + wins["variant"]),
        same_family=judged.same_family,
    )
    return SuiteScore(
        suite=suite,
        kind="judge",
        version=judged.version,
        baseline=judged.baseline,
        variant=judged.variant,
        preference=preference,
    )


def share(wins: int, decided: int) -> Estimate | None:
    """Wins of the decided pairs, with the two-sided 95 % Clopper-Pearson interval; None where none is decided."""
    if not decided:
        return None
    low, high = share_limits(wins, decided)
    return Estimate(value=wins / decided, low=low, high=high, n=decided)


def family(name: str) -> frozenset[str]:
    """Words of a model's name that tell its family: Qwen2.5-7B-Instruct gives qwen."""
    return frozenset(re.findall(r"[a-z]{3,}", name.rstrip("/").rpartition("/")[2].casefold())) - PLAIN


def check_judge(judge: str, url: str, judged: Mapping[str, Sequence[str]]) -> bool:
    """Whether the judge is of the family of a judged model. judged: names, sources and URLs that each model goes by.

    Raises QuantbenchError when the judge is one of them, by its name or by its server.
    """
    for model, known in judged.items():
        for name in (model, *known):
            if name.casefold() == judge.casefold() or server(name) == server(url):
                raise QuantbenchError(
                    f"the judge {judge} at {server(url)} is the judged model {model}: a model does not judge itself",
                    remedy="name another model, on a server of its own, in the suite's url and model",
                )
    own = family(judge)
    return any(own & family(name) for model, known in judged.items() for name in (model, *known) if "://" not in name)


def server(url: str) -> str:
    """A URL without its /v1, as two that mean the same server are compared."""
    return url.strip().rstrip("/").removesuffix("/v1").rstrip("/").replace("://localhost", "://127.0.0.1")
