"""Two texts beside each other: what is marked, how much is shown, and that long ones cost neither time nor room."""

from __future__ import annotations

import difflib
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantbench.quality import score
from quantbench.records.quality import Answer, CheckResult, Floor
from quantbench.report import pages, render
from quantbench.report.differences import BEFORE, MOST, MOST_PAIRS, common, differences, excerpt, excerpts
from quantbench.report.quality import MOST_VERBATIM
from runs import run

FEW = st.lists(st.sampled_from(["a", "b", " ", "\n", "ab"]), max_size=30).map("".join)


@given(FEW, FEW)
def test_the_pieces_are_the_text_and_only_differences_are_marked(text: str, other: str) -> None:
    own, theirs = list(differences(text, other)), list(differences(other, text))
    assert "".join(piece for _, piece in own) == text
    assert any(marked and piece for marked, piece in (*own, *theirs)) == (text != other)


def test_words_are_told_apart_in_between() -> None:
    marked = [piece for differs, piece in differences("one TWO three FOUR five", "one 2 three 4 five") if differs]
    assert marked == ["TWO", "FOUR"]


@given(st.text("ab", max_size=9), st.text("ab", max_size=9))
def test_what_two_texts_share_at_the_start(left: str, right: str) -> None:
    n = common(left, right)
    assert left[:n] == right[:n]
    assert left[n : n + 1] != right[n : n + 1] or n == len(left) == len(right)


@given(st.integers(0, 3 * MOST), st.integers(1, 3 * MOST))
def test_an_excerpt_has_the_place_where_they_part(same: int, more: int) -> None:
    left, right = "x" * same + "a" * more, "x" * same + "b"
    for whole, shown in zip((left, right), excerpts(left, right), strict=True):
        assert shown.text == whole[shown.first - 1 : shown.last]
        assert shown.of == len(whole)
        assert len(shown.text) == min(MOST, len(whole))
        assert shown.first - 1 <= same < shown.last
        assert shown.first == 1 or same >= MOST - BEFORE
    assert excerpt("") == ("", 0, 0, 0)


def _long(kind: str, rng: random.Random) -> tuple[str, str]:
    if kind == "repeats":
        return "a " * 100_000, "b " + "a c " * 50_000
    if kind == "one word":
        return "a" * 200_000, "a" * 100_000 + "b" * 100_000
    words = [f"w{rng.randrange(9)}" for _ in range(66_000)]
    return " ".join(words), " ".join(sorted(words)) if kind == "sorted" else " ".join(words[1:])


@pytest.mark.fault(
    "answers of 200 kB, or of a million characters without a space",
    "the page shows 4 000 characters of each around the first difference and says which; the result files have all",
)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["repeats", "one word", "sorted", "shifted"])
def test_long_answers_make_a_short_page(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, matcher = [], difflib.SequenceMatcher

    def counted(junk: None, a: Sequence[str], b: Sequence[str], **how: Any) -> difflib.SequenceMatcher[str]:
        sizes.append(len(a) * len(b))
        return matcher(junk, a, b, **how)

    monkeypatch.setattr(difflib, "SequenceMatcher", counted)
    base, own = _long(kind, random.Random(1))
    fails = CheckResult(type="regex", ok=False, detail=own)
    items = []
    for number in range(2 * MOST_VERBATIM):
        first, second = (
            Answer(id=f"p{number}", kind="fact", prompt=base, output=text, tokens=1, token_ids=(n,))
            for n, text in enumerate((base, own))
        )
        items.append(score.compare("fact", (first, []), (second, [fails]), note=own))
    floor = Floor(measured=False, answers=0, identical=0, identical_share=None)
    found = run(quality={"awq": score.score(items, floor, baseline="bf16", variant="awq")})
    markdown = render.page(pages.answers(found))
    html = render.report(pages.report(found, {}))
    assert max(sizes, default=0) <= MOST_PAIRS
    for page in (markdown, html):
        assert len(page) < 1_200_000
        assert "of 200,000" in page or "of 197,999" in page
        assert f"{MOST_VERBATIM} more pairs of answers differ" in page
