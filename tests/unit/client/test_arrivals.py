"""Which read brought which tokens: a total is believed to run only where it does, and is never booked to one chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantbench.client.arrivals import Arrivals, Message, arrivals


def stream(
    totals: Sequence[int | None], *, text: str = "", ids: Sequence[int] = (), reads: Sequence[int] = ()
) -> list[Message]:
    """Messages in reads of their own; `text` is t or - per message (default: all t)."""
    return [
        Message(reads[i] if reads else i, (text or "t" * 99)[i] == "t", ids[i] if ids else 0, total)
        for i, total in enumerate(totals)
    ]


def by_text(count: int, first_tokens: int) -> Arrivals:
    """One read per message, the first and the last token with the first and the last text."""
    return Arrivals(tuple(range(count)), count, first_tokens)


# name: messages, completion, what is expected
UNTOLD = {
    "usage on the finish chunk only, two tokens per chunk": (stream([None] * 4 + [8], text="tttt-"), 8, by_text(4, 2)),
    "usage on the last text chunk (TGI), three per chunk": (stream([None, None, 8]), 8, by_text(3, 3)),
    "usage on the last text chunk, one per chunk": (stream([None, None, None, 4]), 4, by_text(4, 1)),
    "an EOS counted on the finish chunk": (stream([None] * 7 + [8], text="ttttttt-"), 8, by_text(7, 1)),
    "usage in a chunk of its own": (stream([None] * 4), 8, by_text(4, 2)),
    "zeros, then the total on the finish chunk": (stream([0, 0, 0, 3], text="ttt-"), 3, by_text(3, 1)),
    "zeros, then the total apart": (stream([0, 0, 0]), 3, by_text(3, 1)),
    "the chunk's own count, the total apart": (stream([1, 1, 1]), 3, by_text(3, 1)),
    "the chunk's own count, the total on the finish chunk": (stream([1, 1, 1, 3], text="ttt-"), 3, by_text(3, 1)),
    "own counts of several tokens": (stream([3, 2, 3]), 8, by_text(3, 3)),
    "the total on every chunk": (stream([3, 3, 3]), 3, by_text(3, 1)),
    "two tokens, the chunk's own count": (stream([1, 1, 2], text="tt-"), 2, by_text(2, 1)),
    "the total before each chunk": (stream([0, 1, 2, 3], text="ttt-"), 3, by_text(3, 1)),
    "totals on some chunks only": (stream([0, None, None, 2], text="-tt-"), 2, Arrivals((1, 2), 2, 1)),
    "ids on some chunks only": (stream([None] * 4, ids=[1, 1, 0, 0]), 4, by_text(4, 1)),
}


@pytest.mark.parametrize("name", UNTOLD)
def test_what_the_server_does_not_tell_is_shared_evenly(name: str) -> None:
    messages, completion, expected = UNTOLD[name]
    assert arrivals(messages, completion) == expected


def test_a_running_total_credits_each_message_with_its_step() -> None:
    assert arrivals(stream([3, 6, 8]), 8) == Arrivals((0, 1, 2), 3, 3)
    assert arrivals(stream([0, 1, 2], text="-tt"), 2) == Arrivals((1, 2), 2, 1)  # a role chunk
    assert arrivals(stream([1, 2, 3], text="-t-"), 3) == Arrivals((0, 1, 2), 3, 1)  # half a character; an EOS
    assert arrivals(stream([3, 4, 6], reads=[5, 5, 6]), 6) == Arrivals((5, 6), 3, 4)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.booleans())
def test_any_true_running_total_is_taken_as_it_is(counts: list[int], role: bool) -> None:
    totals = [0] * role + list(accumulate(counts))
    found = arrivals(stream(totals, text="-" * role + "t" * len(counts)), sum(counts))
    assert found == Arrivals(tuple(range(role, role + len(counts))), len(counts), counts[0])


def test_one_flush_of_held_back_text_is_harmless() -> None:
    assert arrivals(stream([1, 2, 3, 3]), 3) == Arrivals((0, 1, 2), 3, 1)


def test_token_ids_count_whatever_the_usage_of_a_chunk_says() -> None:
    assert arrivals(stream([0, 0, 0], ids=[2, 3, 1], text="-tt"), 6) == Arrivals((0, 1, 2), 3, 2)


@pytest.mark.parametrize("completion", [8, 2])
def test_token_ids_that_contradict_usage_are_a_problem(completion: int) -> None:
    found = arrivals(stream([None] * 3, ids=[1, 1, 1]), completion)
    assert found.problem == f"3 token ids came, usage says {completion} tokens"
    assert replace(found, problem="") == by_text(3, 1)


def test_per_chunk_counts_without_any_total_are_a_problem() -> None:
    assert "ends at 1 for 4 messages" in arrivals(stream([1, 1, 1, 1]), 1).problem
    assert not arrivals(stream([None] * 4), 1).problem  # a proxy that cuts text anew: odd, but no contradiction


def test_nothing_came() -> None:
    assert arrivals([], 8) == Arrivals()
    assert arrivals(stream([None, None], text="--"), 8) == Arrivals()
