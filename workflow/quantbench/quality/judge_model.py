"""Ask a judging model which of two answers is better, in both orders. Off unless a suite of kind `judge` is declared.

It needs no server of the run: only the answers that were collected, and a server of the judge's.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

from quantbench import files
from quantbench.engines import api_key, openai_api
from quantbench.errors import QuantbenchError
from quantbench.quality import checks, judgements
from quantbench.quality.answers import whole
from quantbench.records.judge import Better, Judged, Judgement, JudgeSettings
from quantbench.records.quality import Answer

WAIT_S = 2.0
"""Before the second try; doubled before each one after it."""


class Pair(NamedTuple):
    """Two answers to one prompt, as the judge is shown them: without their thoughts.

    cut: whose answer ends inside its thought; fault: why there is nothing to judge.
    """

    id: str
    prompt: str
    baseline: str
    variant: str
    cut: Literal["baseline", "variant"] | None = None
    fault: str = ""


class _Judge(NamedTuple):
    settings: JudgeSettings
    template: str
    key: str | None
    wait_s: float


def collect(
    baseline: tuple[str, Sequence[Answer]],
    variant: tuple[str, Sequence[Answer]],
    judged: Mapping[str, Sequence[str]],
    settings: JudgeSettings,
    key: str | None,
    log: Path | str,
    *,
    wait_s: float = WAIT_S,
) -> Judged:
    """The judge's words on all pairs, and on the baseline against its own repeat where it has one.

    baseline, variant: (name, answers). judged: what each judged model goes by, see `judgements.check_judge`. key: the
    judge's own. A pair that the judge has no word on is kept as such, with the reason; `log` gets every reply.

    Raises QuantbenchError when the judge is a judged model, the answers are of other prompts, or no pair got a word.
    """
    same_family = judgements.check_judge(settings.model, settings.url, judged)
    if same_family:
        said = f"the judge {settings.model} is named like a judged model: judges prefer their own family"
        print(said, file=sys.stderr, flush=True)
    template = Path(settings.template).read_text(encoding="utf-8")
    judgements.check_template(template, settings.template)
    judge = _Judge(settings, template, key, wait_s)
    repeats = [answer for answer in baseline[1] if answer.again]
    lines: list[dict[str, Any]] = []
    pairs = _ask_all(judge, _pairs(baseline, variant), lines)
    control = _ask_all(judge, [_pair(a, whole(a, a.output), whole(a, a.again[0].output)) for a in repeats], lines)
    files.write_text(log, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    without = {answer.id for answer in (*baseline[1], *variant[1]) if answer.error}
    asked = [one for one in pairs if not one.identical and not one.cut and one.id not in without]
    if asked and all(one.fault for one in asked):
        raise QuantbenchError(
            f"the judge {settings.model} at {settings.url} said nothing of {len(asked)} pairs: {asked[0].fault}",
            remedy="correct the suite's url and model (and its key), or leave the suite out",
            log=log,
        )
    return Judged(
        judge=settings.model,
        version=_version(settings, template, baseline[1]),
        baseline=baseline[0],
        variant=variant[0],
        same_family=same_family,
        pairs=pairs,
        control=control,
    )


def _pairs(baseline: tuple[str, Sequence[Answer]], variant: tuple[str, Sequence[Answer]]) -> list[Pair]:
    if [a.id for a in baseline[1]] != [b.id for b in variant[1]]:
        raise QuantbenchError(
            f"the answers of {baseline[0]} and {variant[0]} are to other prompts", remedy="delete them and rerun"
        )
    both = zip(baseline[1], variant[1], strict=True)
    return [_pair(a, whole(a, a.output), whole(b, b.output), a.error or b.error) for a, b in both]


def _pair(answer: Answer, baseline: str, variant: str, fault: str = "") -> Pair:
    """Two answers to the prompt of one. Where both end inside a thought nothing is left of either, and they tie."""
    cut: list[Literal["baseline", "variant"]] = []
    cut += ["baseline"] if checks.thought(baseline) == "open" else []
    cut += ["variant"] if checks.thought(variant) == "open" else []
    first, second = (checks.answered(text).strip() for text in (baseline, variant))
    return Pair(answer.id, answer.prompt, first, second, cut[0] if len(cut) == 1 else None, fault)


def _version(settings: JudgeSettings, template: str, answers: Sequence[Answer]) -> str:
    asked = [settings.model, template, settings.max_tokens, settings.longest, [(a.id, a.prompt) for a in answers]]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _ask_all(judge: _Judge, pairs: Sequence[Pair], lines: list[dict[str, Any]]) -> tuple[Judgement, ...]:
    with ThreadPoolExecutor(judge.settings.concurrency) as pool:
        both = list(pool.map(lambda pair: _judge_pair(judge, pair), pairs))
    lines += [line for _, said in both for line in said]
    return tuple(judgement for judgement, _ in both)


def _judge_pair(judge: _Judge, pair: Pair) -> tuple[Judgement, list[dict[str, Any]]]:
    """One pair in both orders, and what the judge replied. Never raises for what the judge does."""
    if pair.fault:
        return Judgement(id=pair.id, fault=f"no answer to judge: {pair.fault}"), []
    if pair.cut:
        other: Better = "variant" if pair.cut == "baseline" else "baseline"
        return Judgement(id=pair.id, first=other, second=other, cut=pair.cut), []
    if pair.baseline == pair.variant:
        return Judgement(id=pair.id, identical=True), []
    found, said, fault = {}, [], ""
    for baseline_first in (True, False):
        shown = (pair.baseline, pair.variant) if baseline_first else (pair.variant, pair.baseline)
        text = judgements.question(judge.template, pair.prompt, *shown, judge.settings.longest)
        try:
            reply = api_key.hidden(_reply(judge, text), judge.key)
        except openai_api.ClientError as error:
            fault = str(error)
            break
        said.append({"id": pair.id, "baseline_first": baseline_first, "reply": reply})
        word = judgements.word(reply)
        if word is None:
            fault = f"no [[1]], [[2]] or [[tie]] in the reply: {openai_api.printable(reply[-300:], 120)}"
            break
        found[baseline_first] = judgements.better(word, baseline_first)
    return Judgement(id=pair.id, first=found.get(True), second=found.get(False), fault=fault), said


def _reply(judge: _Judge, text: str) -> str:
    """The judge's text; tried again where waiting may mend it. Raises ClientError."""
    settings = judge.settings
    body = {
        "model": settings.model, "messages": [{"role": "user", "content": text}], "max_tokens": settings.max_tokens,
        "temperature": 0.0, "top_p": 1.0, "seed": 0, "stream": False,
    }  # fmt: skip
    url = f"{judgements.server(settings.url)}/v1/chat/completions"
    answer = _tried(
        lambda: openai_api.ask(url, body, timeout=settings.timeout_s, key=judge.key), settings.tries, judge.wait_s
    )
    try:
        content = answer["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        content = None
    if not isinstance(content, str):
        raise openai_api.ClientError(f"{url} answered without choices[0].message.content", answered=True)
    return content


def _tried(ask: Callable[[], dict[str, Any]], tries: int, wait_s: float) -> dict[str, Any]:
    for n in range(1, tries):
        try:
            return ask()
        except openai_api.ClientError as error:
            if error.lasting:
                raise
            time.sleep(wait_s * 2 ** (n - 1))
    return ask()
