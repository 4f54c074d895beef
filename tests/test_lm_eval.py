"""lm-eval itself, in its own environment, against a stand-in for a served model whose answers are known.

`make setup-lmeval` makes the environment; without it these tests are skipped.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from quantbench.errors import QuantbenchError
from quantbench.quality import ask, lm_eval, lm_eval_samples
from quantbench.records.lm_eval import LmEvalAnswers, LmEvalSettings
from source import ROOT

PYTHON = ROOT / ".venv-lmeval/bin/python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="the lm-eval environment is not set up")
BOS = 1
TEMPLATE = "[u]{}[a]"
TASKS = {
    "letters.yaml": """task: letters
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/letters.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list: [{{metric: acc}}]
""",
    "echo.yaml": """task: echo
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/echo.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["."], max_gen_toks: 16, temperature: 0.7, do_sample: true}}
metric_list: [{{metric: exact_match}}]
""",
}


class Model:
    """Token ids are code points. It answers with the question's last word and a full stop, and holds a letter to be the
    likelier the nearer it is to the letter before it: log-probability minus their distance.
    """

    def __init__(self, **faults: Any) -> None:
        self.faults, self.bodies, self.headers = faults, list[dict[str, Any]](), set[str | None]()
        self.told: list[Any] = []

    def reply(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/v1/models":
            return 200, {"data": [{"id": "m", "max_model_len": 200}]}
        if path == "/tokenize" and "messages" in body:
            self.told.append(body.get("chat_template_kwargs"))
            said = TEMPLATE.format(body["messages"][-1]["content"]) + self.faults.get("opens", "")
            return 200, {"tokens": [BOS, *map(ord, said)]}
        if path == "/tokenize":
            return 200, {"tokens": [BOS] * body["add_special_tokens"] + [ord(c) for c in body["prompt"]]}
        if path == "/detokenize":
            return 200, {"prompt": "".join(map(chr, body["tokens"]))}
        self.bodies.append(body)
        if self.faults.get("status"):
            return self.faults["status"], {"error": "engine dead"}
        ids = body["prompt"]
        choice: dict[str, Any] = {"finish_reason": "stop", "prompt_token_ids": ids[self.faults.get("lost", 0) :]}
        if "prompt_logprobs" in body:
            steps = pairwise(ids)
            places = [{str(b): {"logprob": -abs(a - b), "rank": 1 + (a != b)}} for a, b in steps]
            return 200, {"choices": [{**choice, "text": "x", "prompt_logprobs": [None, *places]}], "usage": {}}
        text = "".join(map(chr, ids)).split("[a]")[0].split()[-1]
        text = self.faults.get("thought", "") + text + self.faults.get("after", "")
        return 200, {"choices": [{**choice, "text": text}], "usage": {"completion_tokens": len(text)}}


@contextmanager
def serving(model: Model) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({})

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def answer(self, body: dict[str, Any]) -> None:
            model.headers.add(self.headers["Authorization"])
            status, value = model.reply(self.path, body)
            data = json.dumps(value).encode()
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


def asked(model: Model, folder: Path, **settings: Any) -> LmEvalAnswers:
    """Two tasks of three items each, asked of the model."""
    for name, text in TASKS.items():
        (folder / name).write_text(text.format(folder=folder))
    letters = [
        {"id": f"l{n}", "question": "abc", "choices": ["d", "z"], "answer": right} for n, right in enumerate([0, 1, 0])
    ]
    echo = [{"id": f"e{n}", "class": "copy", "question": f"say {word}", "answer": word} for n, word in enumerate("abc")]
    echo[2]["answer"] = "other"
    for name, rows in (("letters", letters), ("echo", echo)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = LmEvalSettings(**{"tasks": ("letters", "echo"), "include_path": str(folder), "concurrency": 4, **settings})
    with serving(model) as url:
        return lm_eval.collect(
            url, "m", "sk-key", asked, folder / "log", python=str(PYTHON), name="m", samples=folder / "kept"
        )


def test_likelihoods_and_answers_are_those_of_the_model(tmp_path: Path) -> None:
    model = Model()
    found = asked(model, tmp_path)
    assert [(item.id, item.passed) for item in found.items] == [
        ("letters/l0", True), ("letters/l1", False), ("letters/l2", True),
        ("echo/e0", True), ("echo/e1", True), ("echo/e2", False),
    ]  # fmt: skip
    assert model.headers == {"Bearer sk-key"}
    assert all(set(ask.GREEDY) <= set(body) for body in model.bodies), "whatever a task or a server would choose"
    assert {body["temperature"] for body in model.bodies} == {0.0}
    answers = [body for body in model.bodies if "prompt_logprobs" not in body]
    assert {body["max_tokens"] for body in answers} == {16}
    assert {tuple(body["stop"]) for body in answers} == {(".",)}
    assert all(body["prompt"].count(BOS) == 1 for body in model.bodies)
    first = lm_eval.read_samples(tmp_path / "kept/samples_letters_run.jsonl")[0]
    assert math.isclose(float(first["resps"][0][0][0]), -abs(ord("d") - ord("]")))
    assert "sk-key" not in (tmp_path / "log").read_text()
    other = asked(Model(), tmp_path, chat=False)
    assert other.version != found.version
    plain = lm_eval.read_samples(tmp_path / "kept/samples_letters_run.jsonl")[0]
    steps = pairwise("c d")  # without a template a choice begins with a space
    assert float(plain["resps"][0][0][0]) == -sum(abs(ord(a) - ord(b)) for a, b in steps)
    with pytest.raises(QuantbenchError, match="not asked in the same way"):
        lm_eval_samples.score("s", found, other)


def test_a_thought_is_no_part_of_an_answer_and_one_without_an_end_leaves_nothing(tmp_path: Path) -> None:
    ended = asked(Model(thought="hm</think>"), tmp_path, tasks=("echo",))
    assert [item.passed for item in ended.items] == [True, True, False]
    assert not any(item.passed for item in asked(Model(opens="<think>"), tmp_path, tasks=("echo",)).items)


def test_models_are_told_to_think_and_what_ends_an_answer_ends_no_thought(tmp_path: Path) -> None:
    plain = asked(Model(), tmp_path, tasks=("echo",))
    model = Model(thought="so. hm.</think>\n", after=". And more")
    found = asked(model, tmp_path, tasks=("echo",), thinking=True, thinking_tokens=100)
    assert {tuple(told) for told in model.told} == {("enable_thinking", "thinking")}
    assert {(body["max_tokens"], body["stop"]) for body in model.bodies} == {(116, None)}
    assert [item.passed for item in found.items] == [True, True, False], "cut at the full stop behind the thought"
    assert found.version != plain.version
    cut = asked(Model(opens="<think>"), tmp_path, tasks=("echo",), thinking=True)
    assert {(item.passed, item.in_thought) for item in cut.items} == {(False, True)}
    with pytest.raises(
        QuantbenchError, match=r"(?s)letters compares likelihoods.*quality.thinking is true.*leave that"
    ):
        asked(Model(), tmp_path, thinking=True)
    silent = Model()
    asked(silent, tmp_path, thinking=False)
    assert all(told == {"enable_thinking": False, "thinking": False} for told in silent.told)


@pytest.mark.parametrize(("faults", "settings", "words"), [
    ({"lost": 1}, {}, "arrived with other token ids"),
    ({"status": 400}, {}, "HTTP 400.*engine dead"),
    ({}, {"max_tokens": 500}, "and 500 for the answer are more than the 200"),
    ({}, {"tasks": ("lettres",)}, "(?s)no task lettres.*did you mean letters"),
    ({}, {"tasks": ("wikitext",)}, "(?s)wikitext: its data cannot be read offline.*huggingface"),
    ({}, {"tasks": ("humaneval",)}, "humaneval runs code of answers"),
])  # fmt: skip
def test_what_cannot_be_asked_is_said(
    tmp_path: Path, faults: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(QuantbenchError, match=words):
        asked(Model(**faults), tmp_path, **settings)


def test_prompts_of_ours_are_asked_and_judged(tmp_path: Path) -> None:
    prompts = [
        {
            "id": f"p{n}",
            "class": "fact",
            "prompt": f"say {word}",
            "max_tokens": 9,
            "checks": [{"type": "contains", "all": ["a"]}],
        }
        for n, word in enumerate("ab")
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    found = asked(Model(), tmp_path, tasks=(), include_path=None, items=str(tmp_path / "mine.jsonl"))
    assert [(item.id, item.kind, item.passed) for item in found.items] == [
        ("quantbench_mine/p0", "fact", True), ("quantbench_mine/p1", "fact", False),
    ]  # fmt: skip
