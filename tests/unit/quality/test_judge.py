"""The judge: pure parts, and all of it against a stand-in that is consistent, prefers a place, or misbehaves."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import comb
from pathlib import Path
from typing import Any

import pytest
from quantbench.errors import QuantbenchError
from quantbench.quality import judge_model, judgements
from quantbench.records.judge import Judged, Judgement, JudgeSettings
from quantbench.records.quality import Answer, Repeat
from quantbench.records.suite import Preference
from source import ROOT

TEMPLATE = str(ROOT / "config/prompts/judge.txt")
JUDGED = {"bf16": ["org/Llama-7B"], "int8": ["models/int8"]}
Reply = Callable[[str, str, int], Any]
"""Of the first and the second answer and the number of the request: a text, an HTTP status, or what it does itself."""


def answer(n: int, output: str, again: str | None = None, *, thought: bool = False) -> Answer:
    repeats = () if again is None else (Repeat(concurrency=8, output=again, token_ids=()),)
    return Answer(
        id=f"p{n}", kind="fact", prompt=f"question {n}", output=output, tokens=1, token_ids=(), again=repeats,
        thought_opened=thought,
    )  # fmt: skip


class Judge:
    """Counts what it is asked and replies by a function of what stands in the answers' tags."""

    def __init__(self, reply: Reply) -> None:
        self.reply, self.bodies, self.headers, self.lock = reply, list[dict[str, Any]](), list[Any](), threading.Lock()


@contextmanager
def serving(judge: Judge) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with judge.lock:
                judge.bodies.append(body)
                judge.headers.append(self.headers)
                n = len(judge.bodies)
            text = body["messages"][0]["content"]
            shown = [text.split(f"<answer_{i}>\n")[1].split(f"\n</answer_{i}>")[0] for i in (1, 2)]
            said = judge.reply(*shown, n)
            status = said if isinstance(said, int) else 200
            content = {"choices": [{"message": {"content": said}}]} if isinstance(said, str) else said
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def longest(first: str, second: str, _: int) -> str:
    """A consistent judge: the longer answer is better."""
    if len(first) == len(second):
        return "Equal.\n[[tie]]"
    return "It says more.\n[[1]]" if len(first) > len(second) else "It says more.\n[[2]]"


def asked(
    reply: Reply, pairs: list[tuple[str, str]], folder: Path, repeats: list[str] | None = None, **more: Any
) -> tuple[Judge, Judged]:
    """What comes of these pairs. Raises what `collect` raises."""
    judge = Judge(reply)
    key = more.pop("key", None)
    baseline = [answer(n, a, repeats[n] if repeats else None) for n, (a, _) in enumerate(pairs)]
    variant = [answer(n, b) for n, (_, b) in enumerate(pairs)]
    with serving(judge) as url:
        settings = JudgeSettings(
            **{"items": "prompts.jsonl", "url": url, "model": "Referee-70B", "template": TEMPLATE, **more}
        )
        found = judge_model.collect(
            ("bf16", baseline), ("int8", variant), JUDGED, settings, key, folder / "judge.jsonl", wait_s=0.01
        )
    return judge, found


def preference(judged: Judged) -> Preference:
    found = judgements.score("judge", judged).preference
    assert found
    return found


def test_a_consistent_judge_is_believed_in_both_orders(tmp_path: Path) -> None:
    pairs = [("long answer", "short"), ("short", "a long answer"), ("abc", "xyz"), ("same", "same")]
    judge, judged = asked(longest, pairs, tmp_path, ["long answer", "short!", "abc", "same"])
    said = preference(judged)
    assert (said.baseline_wins, said.variant_wins, said.ties, said.inconsistent) == (1, 1, 2, 0)
    assert (said.pairs, said.identical, said.failed) == (4, 1, 0)
    assert (said.control, said.false_preference) == (1, 1.0), "it prefers one of two answers of the same model"
    assert len(judge.bodies) == 2 * 3 + 2, "equal answers are not asked"
    assert all(body["temperature"] == 0 and body["model"] == "Referee-70B" for body in judge.bodies)
    assert not judgements.score("judge", judged).outcomes, "no gate can rest on a judge"


@pytest.mark.parametrize("place", ["1", "2"])
def test_a_judge_that_prefers_a_place_decides_nothing(tmp_path: Path, place: str) -> None:
    pairs = [(f"answer {n}", f"other {n}") for n in range(6)]
    _, judged = asked(lambda *_: f"[[{place}]]", pairs, tmp_path, [f"again {n}" for n in range(6)])
    said = preference(judged)
    assert (said.baseline_wins, said.variant_wins, said.ties, said.inconsistent) == (0, 0, 6, 6)
    assert (said.share, said.false_preference, said.control) == (None, 0.0, 6)


def test_a_control_of_equal_answers_says_nothing(tmp_path: Path) -> None:
    _, judged = asked(longest, [("a", "bb")], tmp_path, ["a"])
    assert (preference(judged).false_preference, preference(judged).control) == (None, 0)


@pytest.mark.fault(
    "the judge answers garbage, HTTP 500, half a JSON object, nothing in time, for some pairs",
    "these pairs are kept as failed with the reason, the others are judged; a passing error is tried again",
)
@pytest.mark.parametrize(("bad", "fault"), [
    ("I like both!", r"no \[\[1\]\].*I like both!"),
    (500, "HTTP 500"), (400, "HTTP 400"), ({"choices": []}, "without choices"),
    ({"choices": [{"message": {"content": None}}]}, "without choices"), ("slow", "did not answer"),
])  # fmt: skip
def test_one_pair_that_fails_loses_no_other(tmp_path: Path, bad: Any, fault: str) -> None:
    def reply(first: str, second: str, n: int) -> Any:
        if "bad" not in first + second:
            return longest(first, second, n)
        if bad == "slow":
            time.sleep(1.5)
            return longest(first, second, n)
        return bad

    pairs = [("long answer", "short"), ("bad", "worse"), ("short", "long answer")]
    judge, judged = asked(reply, pairs, tmp_path, timeout_s=0.7, tries=2)
    said = preference(judged)
    assert (said.baseline_wins, said.variant_wins, said.failed, said.pairs) == (1, 1, 1, 2)
    assert [one.id for one in judged.pairs if one.fault] == ["p1"]
    assert re.search(fault, judged.pairs[1].fault), judged.pairs[1].fault
    tried = sum("bad" in body["messages"][0]["content"] for body in judge.bodies)
    assert tried == (2 if bad in (500, "slow") else 1)


def test_an_error_that_passes_is_tried_again(tmp_path: Path) -> None:
    judge, judged = asked(
        lambda a, b, n: 503 if n == 1 else longest(a, b, n), [("long one", "short")], tmp_path, concurrency=1
    )
    assert preference(judged).baseline_wins == 1
    assert len(judge.bodies) == 3


@pytest.mark.fault("a judge that says nothing of any pair", "an error that names its URL and the first reason")
def test_a_judge_that_never_answers_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError, match=r"Referee-70B at http://127.*nothing of 1 pairs.*HTTP 404"):
        asked(lambda *_: 404, [("same", "same"), ("a", "bb")], tmp_path)
    with pytest.raises(QuantbenchError, match="did not answer"):
        judge_model.collect(
            ("bf16", [answer(0, "a")]), ("int8", [answer(0, "bb")]), JUDGED,
            JudgeSettings(items="", url="http://127.0.0.1:9", model="Referee", template=TEMPLATE, tries=1), None,
            tmp_path / "l",
        )  # fmt: skip


def test_the_key_goes_to_the_judge_and_into_no_file(tmp_path: Path) -> None:
    def reply(first: str, second: str, n: int) -> str:
        return "sk-secret, no word" if "bad" in first + second else longest(first, second, n)

    judge, judged = asked(reply, [("a", "bb"), ("bad", "b")], tmp_path, key="sk-secret")
    assert {headers["Authorization"] for headers in judge.headers} == {"Bearer sk-secret"}
    assert "sk-secret" not in str(judged)
    assert "sk-secret" not in (tmp_path / "judge.jsonl").read_text()


def test_every_reply_is_logged(tmp_path: Path) -> None:
    asked(longest, [("long answer", "short")], tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "judge.jsonl").read_text().splitlines()]
    assert [(line["id"], line["baseline_first"]) for line in lines] == [("p0", True), ("p0", False)]


def test_thoughts_are_not_shown_and_long_answers_are_cut(tmp_path: Path) -> None:
    judge = Judge(longest)
    with serving(judge) as url:
        judge_model.collect(
            ("bf16", [answer(0, "hm</think>4", thought=True)]), ("int8", [answer(0, "x" * 10_000)]), JUDGED,
            JudgeSettings(items="", url=f"{url}/v1/", model="Referee", template=TEMPLATE, longest=50), None,
            tmp_path / "l",
        )  # fmt: skip
    text = judge.bodies[0]["messages"][0]["content"]
    assert "<answer_1>\n4\n</answer_1>" in text
    assert "x" * 50 + judgements.CUT in text
    assert "x" * 51 not in text


@pytest.mark.parametrize(("a", "b", "outcome"), [
    ("<think>4</think>4", "<think>hm, 4", "baseline"), ("<think>hm", "no", "variant"), ("<think>a", "<think>b", "tie"),
    ("<think>a</think>4", "<think>b</think>4", "tie"),
])  # fmt: skip
def test_an_answer_that_ends_in_its_thought_never_wins(tmp_path: Path, a: str, b: str, outcome: str) -> None:
    judge, judged = asked(lambda *_: "[[tie]]", [(a, b), ("x", "yy")], tmp_path)
    assert judgements.outcome(judged.pairs[0]) == outcome
    assert len(judge.bodies) == 2, "nobody is asked about it"


@pytest.mark.fault(
    "a judge that is one of the judged models, by its name or its server",
    "refused before anything is asked; one of the same family is said on the screen and in the result",
)
@pytest.mark.parametrize(("model", "url"), [
    ("bf16", "http://other"), ("ORG/llama-7b", "http://other"), ("any", "http://served:8000/v1"),
    ("any", "http://served:8000/"),
])  # fmt: skip
def test_a_judged_model_does_not_judge(model: str, url: str) -> None:
    judged = {**JUDGED, "int4": ["org/Llama-AWQ", "http://served:8000"]}
    with pytest.raises(QuantbenchError, match="does not judge itself"):
        judgements.check_judge(model, url, judged)


@pytest.mark.parametrize(("judge", "judged", "same"), [
    ("Qwen/Qwen3-32B-Instruct", "Qwen/Qwen2.5-1.5B-Instruct-AWQ", True), ("gpt-9", "Qwen/Qwen2.5-1.5B-Instruct", False),
    ("meta-llama/Llama-3.3-70B-Instruct", "org/llama-2-7b-chat", True),
    ("Mistral-Large-Instruct", "gemma-3-1b-it", False),
    ("DeepSeek-R1-Distill-Qwen-32B", "Qwen2.5-7B", True), ("gemma-3-27b-it", "models/cpu/int8", False),
])  # fmt: skip
def test_the_family_is_told_by_the_name(judge: str, judged: str, same: bool) -> None:
    assert judgements.check_judge(judge, "http://judge", {"m": [judged]}) is same


def test_the_same_family_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, judged = asked(longest, [("a", "bb")], tmp_path, model="llama-70b")
    assert preference(judged).same_family
    assert "named like a judged model" in capsys.readouterr().err


def test_answers_to_other_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError, match="are to other prompts"):
        judge_model.collect(
            ("bf16", [answer(0, "a")]), ("int8", [answer(1, "b")]), JUDGED,
            JudgeSettings(items="", url="http://127.0.0.1:9", model="R", template=TEMPLATE), None, tmp_path / "l",
        )  # fmt: skip


@pytest.mark.parametrize(("reply", "said"), [
    ("so [[1]]", "1"), ("[[1]] at first, then\n[[ TIE ]]", "tie"), ("<think>[[1]]</think>[[2]]", "2"),
    ("<think>[[1]]", None), ("[1]", None), ("", None), ("[[3]]", None), ("[[" * 5000, None),
])  # fmt: skip
def test_the_last_word_behind_the_thought_counts(reply: str, said: str | None) -> None:
    assert judgements.word(reply) == said


def test_braces_in_an_answer_stay_as_they_are() -> None:
    template = "Q {question} A {first} B {second}"
    shown = judgements.question(template, "{first}", "{second} \\1", "{question}", 100)
    assert shown == "Q {first} A {second} \\1 B {question}"


@pytest.mark.parametrize("text", ["{question} {first}", "{question} {first} {second} {first}", ""])
def test_a_template_that_does_not_show_both_answers_is_refused(text: str) -> None:
    with pytest.raises(QuantbenchError, match=r"mine.txt: \{"):
        judgements.check_template(text, "mine.txt")


@pytest.mark.parametrize(("first", "second", "outcome"), [
    ("variant", "variant", "variant"), ("baseline", "baseline", "baseline"), ("baseline", "variant", "tie"),
    ("tie", "variant", "tie"), ("tie", "tie", "tie"), ("variant", None, None), (None, "tie", None),
])  # fmt: skip
def test_a_win_needs_both_orders(first: Any, second: Any, outcome: str | None) -> None:
    assert judgements.outcome(Judgement(id="a", first=first, second=second)) == outcome


@pytest.mark.parametrize("decided", [1, 8, 40])
def test_the_interval_of_the_share_covers_at_least_95_percent(decided: int) -> None:
    """Not simulated: summed over all that can be seen, at shares from 1 to 99 %."""
    intervals = [judgements.share(wins, decided) for wins in range(decided + 1)]
    covers = []
    for percent in range(1, 100):
        p = percent / 100
        covers.append(sum(
            comb(decided, wins) * p**wins * (1 - p) ** (decided - wins)
            for wins, found in enumerate(intervals)
            if found and found.low is not None and found.high is not None and found.low <= p <= found.high
        ))  # fmt: skip
    assert 0.95 <= min(covers) <= max(covers) <= 1 + 1e-9
    assert decided < 40 or min(covers) < 0.98, "it is not simply wide"
    assert judgements.share(0, 0) is None
