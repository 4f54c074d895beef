"""A suite of answers asked of a small server: what is asked again, what is lost, and what ends it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from answer_server import Server, serving
from msgspec.structs import replace
from quantbench.errors import QuantbenchError
from quantbench.kept_items import KeptItems
from quantbench.quality import answers, ask, collect, prompt_set, suites
from quantbench.quality.asked import Asked
from quantbench.quality.asked import Server as Place
from quantbench.quality.pair import Pair, Side
from quantbench.records.base import read, write
from quantbench.records.block import ServedWith
from quantbench.records.quality import Answer
from quantbench.records.suite import SETTINGS, AnswersSettings, SuiteScore

SERVED = ServedWith(spec={"source": "m"}, source_id="1")
SETTING = AnswersSettings(items="x", concurrency=4, floor_concurrency=2, floor_repeat=True)


def items(letters: str) -> list[dict[str, Any]]:
    """The answer to an item is its letter, in capitals."""
    return [
        {"id": c, "class": "fact", "prompt": f"say {c}", "max_tokens": 8, "checks": [{"type": "contains", "any": [c]}]}
        for c in letters
    ]


class Bench:
    """A suite's file of kept answers, and the server that is asked for the rest."""

    def __init__(self, folder: Path) -> None:
        self.path, self.leases = folder / "kept.jsonl", 0

    def collect(
        self, letters: str, server: Server, floor: tuple[int, ...] = (), served: ServedWith = SERVED
    ) -> list[Answer]:
        kept = KeptItems(self.path, served)

        @contextmanager
        def lease() -> Iterator[Place]:
            self.leases += 1
            kept.begin(served)
            with serving(server) as url:
                yield Place(url, "m")

        return list(collect.collect(Asked("tasks", "m", SETTING, items(letters), kept, lease, floor)))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(ask, "PAUSE_S", 0.0)
    return Bench(tmp_path)


def score(a: list[Answer], b: list[Answer], letters: str, suite: str = "tasks") -> SuiteScore:
    return suites.KINDS["answers"].score(Pair(suite, SETTING, items(letters), Side("base", a), Side("int8", b)))


def test_every_kind_can_be_asked_and_scored() -> None:
    assert set(suites.KINDS) == set(collect.KINDS) <= set(SETTINGS)


def test_what_was_asked_once_is_not_asked_again(bench: Bench) -> None:
    first = bench.collect("abc", Server())
    assert [answer.output for answer in first] == ["A", "B", "C"]
    server = Server()
    assert [answer.output for answer in bench.collect("dbca", server)] == ["D", "B", "C", "A"]
    assert len(server.bodies) == 1
    assert bench.collect("abc", Server()) == first
    assert bench.leases == 2, "no server is brought up for what is kept"
    again = Server()
    assert [len(answer.again) for answer in bench.collect("ab", again, floor=(1, 2))] == [2, 2]
    assert len(again.bodies) == 4, "only the repeats"


def test_answers_of_another_server_are_not_taken_and_not_lost(bench: Bench) -> None:
    bench.collect("ab", Server())
    other = Server()
    bench.collect("ab", other, served=ServedWith(spec={"source": "m"}, source_id="2"))
    assert len(other.bodies) == 2
    bench.collect("ab", Server())
    bench.collect("ab", Server(), served=ServedWith(spec={"source": "m"}, source_id="2"))
    assert bench.leases == 2


@pytest.mark.fault(
    "the file of kept answers ends in half a line (power, a full disk)",
    "that answer is asked again, all others are kept",
)
def test_half_a_line_costs_its_answer_only(bench: Bench) -> None:
    bench.collect("abc", Server())
    content = bench.path.read_bytes()
    bench.path.write_bytes(content[:-20])
    server = Server()
    assert [answer.output for answer in bench.collect("abc", server)] == ["A", "B", "C"]
    assert len(server.bodies) == 1
    bench.collect("abc", Server())
    assert bench.leases == 2


def test_checks_and_names_of_items_ask_nothing_again_and_what_is_asked_does() -> None:
    plain = items("ab")
    version = suites.version(SETTING, plain)
    assert suites.version(SETTING, [item | {"id": "z", "class": "code", "checks": []} for item in plain]) == version
    assert suites.version(SETTING, [item | {"max_tokens": 9} for item in plain]) != version
    assert suites.version(SETTING, plain[:1]) != version
    assert suites.version(SETTING, [item | {"prompt": "?"} for item in plain]) != version


@pytest.mark.fault("a server answers a prompt with HTTP 500 now and then", "asked again, twice at most")
def test_a_moody_server_is_asked_again(bench: Bench) -> None:
    server = Server(moody=2)
    assert [answer.error for answer in bench.collect("abc", server)] == ["", "", ""]
    assert set(server.tried.values()) == {3}


WORDS = " ".join(hashlib.sha256(bytes([n // 256, n % 256])).hexdigest()[: 4 + n % 9] for n in range(1200)).encode()
LONG = b'{"choices": [{"text": "%s", "finish_reason": "stop", "token_ids": [1], "prompt_token_ids": IDS}],' \
       b' "usage": {"completion_tokens": 1}}'  # fmt: skip
ODD: dict[str, tuple[Any, str | None, int]] = {
    "HTTP 500": (500, "HTTP 500: odd", 3),
    "HTTP 400": (400, "HTTP 400: odd", 1),
    "silence until the time is out": (5.0, "did not answer", 1),
    "no JSON": (b"<html>", "without a JSON object", 3),
    "a stream": (b'data: {"choices": [{"text": "z"}]}\n\n', "answered with a stream", 1),
    "no choices": (b'{"choices": []}', "JSON of another shape", 3),
    "a number for a text": (LONG.replace(b'"%s"', b"1"), "JSON of another shape", 3),
    "no ids": (LONG.replace(b"[1]", b"null"), "JSON of another shape", 3),
    "an empty text": (LONG % b"", None, 1),
    "no text": (LONG.replace(b'"%s"', b"null"), None, 1),
    "invalid UTF-8": (LONG % b"z \xff\xfe", None, 1),
    "half of a surrogate pair": (LONG % b"z \\ud83d", None, 1),
    "10 000 characters": (LONG % (b"z " + WORDS), None, 1),
    "a loop": (LONG % (b"z z " * 100), None, 1),
}
"""What one of 40 items gets; why it has no answer then, or None where what came is judged; how often it is asked."""


@pytest.mark.fault(
    "one answer of a suite is an error, late, empty, no JSON, no UTF-8, 10 000 characters long, a loop",
    "judged where it is an answer, else noted and counted on neither side; all others are kept",
)
@pytest.mark.parametrize("name", ODD)
def test_one_odd_answer_loses_no_other(
    bench: Bench, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "TIMEOUT_S", 3)
    odd, why, tries = ODD[name]
    letters = "".join(chr(0x3B1 + n) for n in range(24)) + "z"
    server = Server(odd={"z": odd})
    found = bench.collect(letters, server)
    write(tmp_path / "collected.json", found)
    found = read(tmp_path / "collected.json", list[Answer])
    assert server.tried["z"] == tries
    assert [answer.id for answer in found if answer.error] == (["z"] if why else [])
    assert (why or "") in found[-1].error
    good = bench.collect(letters, Server(), served=ServedWith(spec={"source": "base"}))
    scored = score(good, found, letters)
    assert scored.unanswered == (("z",) if why else ())
    last = scored.outcomes[-1]
    assert last.baseline.passed
    assert last.variant.passed is (None if why else name == "10 000 characters")
    assert bool(last.variant.hard) == (why is None and name != "10 000 characters")
    assert all(outcome.variant.passed for outcome in scored.outcomes[:-1])


@pytest.mark.fault(
    "more than 5 % of a suite's items get no answer",
    "the suite ends; a later run asks what is missing",
)
def test_a_server_that_fails_ends_the_suite_and_keeps_what_it_gave(bench: Bench) -> None:
    letters = "".join(map(chr, range(0x3B1, 0x3B1 + 25))) + "xyz"
    with pytest.raises(QuantbenchError, match=r"2 of 28 prompts got no answer from m, at most 1 .* HTTP 500: odd"):
        bench.collect(letters, Server(odd=dict.fromkeys("xyz", 500)))
    server = Server()
    assert not any(answer.error for answer in bench.collect(letters, server))
    assert 3 <= len(server.bodies) < 10


def test_an_item_that_does_not_fit_is_no_failure_of_the_server(bench: Bench) -> None:
    found = bench.collect("abc", Server(context=10))
    assert {answer.error for answer in found} == {"it needs 14 tokens, and the server takes 10"}
    with serving(Server(context=10)) as url, pytest.raises(QuantbenchError, match="a does not fit m: it needs 14"):
        ask.answers(url, "m", items("a"))


@pytest.mark.fault(
    "two servers of a suite have other tokenizers, or other chat templates", "the suite is not scored: it says which"
)
@pytest.mark.parametrize(("fault", "part"), [({"salt": 1}, "tokenizer"), ({"frame": (5,)}, "chat template")])
def test_other_token_ids_stop_the_suite_and_say_what_differs(bench: Bench, fault: dict[str, Any], part: str) -> None:
    a = bench.collect("ab", Server())
    b = bench.collect("ab", Server(**fault), served=ServedWith(spec={"source": "other"}))
    with pytest.raises(QuantbenchError) as caught:
        score(a, b, "ab")
    assert f"suite tasks: base and int8 did not get the same token ids: their {part} differs (item a:" in str(
        caught.value
    )
    assert "quality.suites.tasks: null" in caught.value.remedy
    assert [outcome.same_input for outcome in score(a, b, "ab", suite="prompts").outcomes] == [False, False]


def test_the_floor_is_the_baseline_itself_and_collections_belong_to_their_items(bench: Bench) -> None:
    a = bench.collect("ab", Server(), floor=(1,))
    scored = score(a, bench.collect("ab", Server()), "ab")
    assert all(outcome.again == (outcome.baseline,) for outcome in scored.outcomes)
    assert (scored.kind, scored.baseline, scored.variant, scored.version) == (
        "answers", "base", "int8", suites.version(SETTING, items("ab")),
    )  # fmt: skip
    with pytest.raises(QuantbenchError, match="answers of base belong to other items"):
        score(a, a, "ba")


def test_a_limit_takes_classes_in_turn_and_a_larger_one_takes_all_that_it_took() -> None:
    kinds = "aaabbcaaa"
    given = [item | {"class": kind} for item, kind in zip(items("123456789"), kinds, strict=True)]
    taken = [[item["id"] for item in prompt_set.chosen(given, limit)] for limit in range(1, 10)]
    assert taken[2] == ["1", "4", "6"]
    assert taken[4] == ["1", "2", "4", "5", "6"]
    assert all(set(few) < set(more) for few, more in pairwise(taken))
    assert prompt_set.chosen(given, None) == given


def test_what_is_too_hard_is_left_out_and_a_limit_counts_what_is_left() -> None:
    given = [
        item | level for item, level in zip(items("1234"), [{"level": 3}, {"level": 1}, {}, {"level": 2}], strict=True)
    ]
    ids = {
        (level, limit): "".join(item["id"] for item in prompt_set.chosen(given, limit, level))
        for level in (1, 2, 3)
        for limit in (None, 2)
    }
    assert ids == {(1, None): "23", (1, 2): "23", (2, None): "234", (2, 2): "23", (3, None): "1234", (3, 2): "12"}
    with pytest.raises(QuantbenchError, match="no item up to level 1"):
        suites.items(replace(SETTING, max_level=1), json.dumps(given[0]))


def test_a_repeat_is_another_answer_and_the_first_pass_is_one_at_any_concurrency() -> None:
    (item,) = items("a")
    assert answers.key(item, 0, 1) == answers.key(item, 0, 8)
    assert len({answers.key(item, *which) for which in ((0, 1), (1, 1), (1, 8), (2, 8))}) == 4
