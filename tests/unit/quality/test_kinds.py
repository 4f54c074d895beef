"""Kinds of suites that others ask (lm-eval, a judge, likelihoods): what is asked once, kept, and how it is scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from answer_server import Server, serving
from quantbench.errors import QuantbenchError
from quantbench.kept_items import KeptItems
from quantbench.quality import ask_likelihood, collect, judge_model, likelihood, lm_eval, suites
from quantbench.quality.asked import Asked
from quantbench.quality.asked import Server as Place
from quantbench.quality.pair import Pair, Side
from quantbench.records.block import ServedWith
from quantbench.records.judge import Judged, Judgement, JudgeSettings
from quantbench.records.likelihood import Likelihoods, ScoredText, WrittenText
from quantbench.records.lm_eval import LmEvalAnswers, LmEvalItem, LmEvalSettings
from quantbench.records.suite import LikelihoodSettings, SuiteSettings
from source import ROOT

TEMPLATE = str(ROOT / "config/prompts/judge.txt")
SERVED = ServedWith(spec={"source": "m"}, source_id="1")
ITEMS = [{"id": c, "class": "fact", "prompt": f"say {c}", "max_tokens": 8, "checks": []} for c in "abc"]


class Bench:
    """One suite; `leases` counts how often a server was brought up."""

    def __init__(self, folder: Path, settings: SuiteSettings) -> None:
        self.folder, self.settings, self.leases = folder, settings, 0
        self.server = Server()

    def collect(
        self, model: str, items: Sequence[dict[str, Any]] = ITEMS, baseline: Sequence[Any] | None = None, **more: Any
    ) -> list[Any]:
        kept = KeptItems(self.folder / f"{model}.jsonl", SERVED)

        @contextmanager
        def lease() -> Iterator[Place]:
            self.leases += 1
            kept.begin(SERVED)
            if not isinstance(self.settings, JudgeSettings):  # who asks is a stand-in
                yield Place("http://127.0.0.1:9", model)
                return
            with serving(self.server) as url:
                yield Place(url, model)

        asked = Asked("s", model, self.settings, items, kept, lease, baseline=baseline, baseline_name="bf16", **more)
        return list(collect.collect(asked))

    def score(self, baseline: list[Any], variant: list[Any]) -> Any:
        kind = suites.of(self.settings)
        return kind.score(Pair("s", self.settings, ITEMS, Side("bf16", baseline), Side("int8", variant)))


def test_a_judge_is_asked_once_about_both_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def judged(baseline: Any, variant: Any, known: Any, settings: Any, key: Any, log: Any) -> Judged:
        asked.append((known, key))
        pairs = tuple(Judgement(id=a.id, first="variant", second="variant") for a in baseline[1])
        return Judged(judge="R", version="v", baseline=baseline[0], variant=variant[0], pairs=pairs)

    monkeypatch.setattr(judge_model, "collect", judged)
    bench = Bench(tmp_path, JudgeSettings(items="x", url="http://127.0.0.1:9", model="R", key_env="JUDGE_KEY"))
    base = bench.collect("bf16", floor=(2,))
    assert [answer.again[0].output for answer in base[0].answers] == ["A", "B", "C"], "the control"
    with pytest.raises(QuantbenchError, match="JUDGE_KEY that should hold the judge's API key is empty"):
        bench.collect("int8", baseline=base)
    monkeypatch.setenv("JUDGE_KEY", "secret")
    own = bench.collect("int8", baseline=base)
    assert bench.collect("int8", baseline=base) == own
    ((known, key),) = asked
    assert key == "secret"
    assert set(known) == {"bf16", "int8"}
    assert all(name in known[name] for name in known), "by what the server calls it"
    assert bench.leases == 2
    assert bench.score(base, own).preference.variant_wins == 3
    with pytest.raises(QuantbenchError, match="the judge said nothing of int8"):
        bench.score(base, base)


@pytest.mark.fault(
    "a server has no answer to single items of a suite of kind `judge`",
    "these pairs are kept as failed with the reason and named as unanswered, the others are judged; where more than a "
    "twentieth is missing the suite ends, and asks only the rest when it is run again",
)
def test_an_item_without_an_answer_costs_a_judge_that_pair_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = []
    monkeypatch.setattr(judge_model, "_reply", lambda judge, text: replies.append(text) or "[[tie]]")
    bench = Bench(tmp_path, JudgeSettings(items="x", url="http://127.0.0.1:9", model="R", template=TEMPLATE))
    base = bench.collect("bf16")
    bench.server = Server(odd={"b": 400})
    more: dict[str, Any] = {"baseline": base, "log": tmp_path / "log"}
    own = bench.collect("int8", **more)
    assert [bool(answer.error) for answer in own[0].answers] == [False, True, False]
    assert [one.fault[:18] for one in own[0].judged.pairs] == ["", "no answer to judge", ""]
    score = bench.score(base, own)
    assert (score.unanswered, score.preference.failed, score.preference.pairs) == (("b",), 1, 2)
    bench.server = Server(odd={"a": 400, "b": 400, "c": 400})
    with pytest.raises(QuantbenchError, match="of 3 prompts got no answer"):
        bench.collect("other", **more)
    bench.server = Server()
    assert not any(answer.error for answer in bench.collect("int8", **more)[0].answers), "asked again, it answers"


def test_models_of_a_judge_are_told_to_think_and_have_room_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, limits, versions = [], [], set()
    for thinking, tokens in ((None, 0), (True, 100), (False, 0)):
        settings = JudgeSettings(
            items="x", url="http://j", model="R", template=TEMPLATE, thinking=thinking, thinking_tokens=tokens
        )
        bench = Bench(tmp_path, settings)
        (found,) = bench.collect("bf16")
        told.append(bench.server.told[0])
        limits.append({body["max_tokens"] for body in bench.server.bodies})
        assert {answer.thinking for answer in found.answers} == {thinking}
        versions.add(suites.version(settings, ITEMS))
    assert told == [None, {"enable_thinking": True, "thinking": True}, {"enable_thinking": False, "thinking": False}]
    assert limits == [{8}, {108}, {8}], "each was asked anew, with tokens for the thought"
    assert len(versions) == 3


def test_lm_eval_is_run_once_for_what_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def run(*where: Any, name: str, **more: Any) -> LmEvalAnswers:
        runs.append((where[1], more["again"]))
        items = tuple(
            LmEvalItem(id=f"t/{n}", task="t", doc_hash="d", kind="fact", passed=name == "bf16", prompt_ids_sha256="p")
            for n in range(3)
        )
        return LmEvalAnswers(model=name, version="v", lm_eval="0.4", tasks=(), items=items, again=(items,))

    monkeypatch.setattr(lm_eval, "collect", run)
    bench = Bench(tmp_path, LmEvalSettings(tasks=("t",)))
    base, own = bench.collect("bf16", (), floor=(4,)), bench.collect("int8", ())
    assert bench.collect("bf16", (), floor=(4,)) == base
    assert runs == [("bf16", (4,)), ("int8", ())]
    score = bench.score(base, own)
    assert [(o.baseline.passed, o.variant.passed, o.again[0].passed) for o in score.outcomes] == [
        (True, False, True)
    ] * 3
    bench.settings = LmEvalSettings(tasks=("t", "u"))
    bench.collect("int8", ())
    assert len(runs) == 3, "other tasks"


def test_texts_are_written_and_scored_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def told(
        _: str, model: str, prompts: Any, *, baseline: Likelihoods | None, tokens: int, **more: Any
    ) -> Likelihoods:
        asked.append((model, [prompt["id"] for prompt in prompts]))
        texts = tuple(
            WrittenText(
                id=p["id"],
                asked=likelihood.asked(p, tokens),
                prompt_token_ids=(1,),
                token_ids=(2,),
                finish_reason="stop",
            )
            for p in prompts
        )
        scored = tuple(ScoredText(id=p["id"], sha256="x", likely="y") for p in prompts)
        role: Any = "variant" if baseline else "baseline"
        return Likelihoods(role=role, tokens=tokens, concurrency=8, texts=() if baseline else texts, scored=scored)

    monkeypatch.setattr(ask_likelihood, "collect", told)
    bench = Bench(tmp_path, LikelihoodSettings(items="x", tokens=8))
    base = bench.collect("bf16", ITEMS[:2])
    own = bench.collect("int8", ITEMS[:2], baseline=base)
    assert [text.id for text in own[0].scored] == ["a", "b"]
    more = bench.collect("bf16")
    assert [text.id for text in more[0].texts] == ["a", "b", "c"]
    assert [text.id for text in bench.collect("int8", baseline=more)[0].scored] == ["a", "b", "c"]
    assert asked == [("bf16", ["a", "b"]), ("int8", ["a", "b"]), ("bf16", ["c"]), ("int8", ["c"])]
