"""Requests: reproducible, distinct from their first characters, warm-up apart from the measured ones."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantbench.client.prompts import Prompt, requests_for
from quantbench.errors import QuantbenchError

ITEMS: list[dict[str, Any]] = [{"id": f"p{i}", "prompt": f"Question {i}?"} for i in range(5)]


def take(count: int, *, items: list[dict[str, Any]] = ITEMS, **options: Any) -> list[Prompt]:
    return list(islice(requests_for(items, **{"seed": "s", **options}), count))


@settings(max_examples=30, deadline=None)
@given(seed=st.text(max_size=9), size=st.integers(1, 7))
def test_one_seed_one_sequence_and_every_lead_is_distinct(seed: str, size: int) -> None:
    items = [{"id": i, "prompt": "same text"} for i in range(size)]
    measured = take(200, items=items, seed=seed)
    warm = take(200, items=items, seed=seed, warmup=True)
    assert measured == take(200, items=items, seed=seed)
    leads = [p.text[:12] for p in [*measured, *warm] if p.text]
    assert len(set(leads)) == 400


def test_no_two_leads_share_a_long_beginning_in_order() -> None:
    leads = [p.nonce[:4] for p in take(64)]
    assert len(set(leads)) > 55  # the difference is in the first characters, hence in the first cache block


def test_another_seed_another_sequence() -> None:
    assert {p.nonce for p in take(100)}.isdisjoint(p.nonce for p in take(100, seed="t"))


def test_another_salt_keeps_the_prompts_and_their_order_behind_other_texts() -> None:
    plain, again = take(20), take(20, salt="__aa")
    assert [p.id for p in plain] == [p.id for p in again]
    assert not {p.nonce for p in plain} & {p.nonce for p in again}


def test_each_round_uses_every_item_once_in_an_order_of_its_own() -> None:
    rounds = [[p.id for p in take(40)[i : i + 5]] for i in range(0, 40, 5)]
    assert all(sorted(r) == [f"p{i}" for i in range(5)] for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1


def test_a_template_is_filled_literally() -> None:
    [prompt] = take(1, items=[{"id": "d", "text": "a {b} {{c}}"}], template="Sum up:\n{document}\nEnd {x}")
    assert prompt.text == f"[{prompt.nonce}] Sum up:\na {{b}} {{{{c}}}}\nEnd {{x}}"


def test_messages_get_the_lead_in_the_first_one_and_stay_unchanged_outside() -> None:
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
    first, second = take(2, items=[{"id": "m", "messages": messages}])
    assert first.messages is not None
    assert first.messages[0] == {"role": "system", "content": f"[{first.nonce}] Be short."}
    assert first.messages[1] == messages[1]
    assert first.nonce != second.nonce
    assert messages[0]["content"] == "Be short."


@pytest.mark.parametrize(
    ("items", "template", "word"),
    [
        ([], None, "empty"),
        ([{"id": "a"}], None, "'a' has no text"),
        ([{"id": "a", "prompt": "  "}], None, "'a' has no text"),
        ([{"prompt": 7}], None, "'0' has no text"),
        ([{"id": "a", "messages": []}], None, "'a': `messages`"),
        ([{"id": "a", "messages": [{"role": "user"}]}], None, "'a': `messages`"),
        ([{"id": "a", "messages": [{"role": "user", "content": "x"}]}], "{prompt}", "template"),
        ([{"id": "a", "prompt": "x"}], "no place", "template"),
    ],
)
def test_bad_sets_are_named(items: list[dict[str, Any]], template: str | None, word: str) -> None:
    with pytest.raises(QuantbenchError, match=word):
        requests_for(items, template=template, seed="s")
