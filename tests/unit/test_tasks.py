"""The shipped tasks come from their script, and their checks tell their right answers from near misses."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from typing import Any

import pytest
from prompts import make_tasks, sums
from prompts.make_tasks import Task
from quantbench.quality import checks, code_check, prompt_set
from source import ROOT

FOLDER = ROOT / "config/prompts"
KINDS = (
    "arithmetic", "reasoning", "fact", "lookup", "code", "extraction", "json", "tool_call", "summary",
    "second_language", "instruction", "copying", "sorting", "refusal",
)  # fmt: skip
USES = (
    {"fact", "lookup"}, {"arithmetic", "reasoning"}, {"code"}, {"extraction", "json", "tool_call"}, {"summary"},
    {"second_language"},
)  # fmt: skip
BOUNDS_5_PERCENT = 59
"""Items of which none is lost, so that a loss of 5 % is ruled out: 0.95^59 < 5 %."""
SHORT = 3000
"""Most characters of a prompt that leaves room for an answer in 1024 tokens."""


@functools.cache
def made() -> list[Task]:
    return make_tasks.tasks()


def holds(task: Task, text: str) -> bool:
    return all(result.ok for result in checks.run_checks(text, task.item.checks, code_check.run_python))


@pytest.mark.parametrize(("name", "make"), [("tasks", make_tasks.tasks), ("tasks_long", make_tasks.long_tasks)])
def test_the_script_makes_the_shipped_file_byte_for_byte(name: str, make: Any) -> None:
    shipped = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8")
    assert make_tasks.text(make()) == shipped
    assert {prompt["source"] for prompt in prompt_set.parse(shipped, name)} == {"quantbench, CC0-1.0"}


@pytest.mark.parametrize("kind", KINDS)
def test_checks_accept_the_reference_answers_and_reject_near_misses(kind: str) -> None:
    tasks = [task for task in made() if task.kind == kind]
    assert [task.id for task in tasks if not holds(task, task.item.right)] == []
    assert [task.id for task in tasks if holds(task, task.item.wrong)] == []


def test_checks_of_long_passages_do_so_too() -> None:
    tasks = make_tasks.long_tasks()
    assert [task.id for task in tasks if not holds(task, task.item.right) or holds(task, task.item.wrong)] == []
    lengths = [len(task.item.prompt) for task in tasks]
    assert max(lengths) > 3 * min(lengths) > 9 * SHORT


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"code"}))
def test_a_thought_changes_nothing_and_a_cut_one_never_passes(kind: str) -> None:
    for task in (task for task in made() if task.kind == kind):
        assert holds(task, f"<think>\nIs it {task.item.wrong}?\n</think>\r\n\r\n{task.item.right}"), task.id
        assert not holds(task, f"<think>\n{task.item.right}"), task.id


def test_every_use_has_enough_items_and_every_class_all_levels() -> None:
    counts = Counter(task.kind for task in made())
    assert counts.keys() == set(KINDS)
    assert counts.total() >= 480
    assert min(sum(counts[kind] for kind in use) for use in USES) >= BOUNDS_5_PERCENT
    levels = {(task.kind, task.level) for task in made()}
    assert levels == {(kind, level) for kind in KINDS for level in make_tasks.LEVELS}


def test_the_first_of_each_class_are_easy_and_hard_alike() -> None:
    """A subset takes the first k of each class; a part of the file has each class in proportion."""
    order = defaultdict(list)
    for task in made():
        order[task.kind].append(task.level)
    assert {kind: levels[:5] for kind, levels in order.items()} == {kind: [1, 2, 3, 4, 5] for kind in KINDS}
    shares = {kind: [Counter(levels[:15])[level] for level in make_tasks.LEVELS] for kind, levels in order.items()}
    assert all(min(share) >= 1 and max(share) <= 5 for share in shares.values()), shares
    half = Counter(task.kind for task in made()[: len(made()) // 2])
    assert all(abs(half[kind] - len(levels) / 2) <= 1 for kind, levels in order.items())


def test_ids_and_prompts_are_used_once_and_fit() -> None:
    tasks = [*made(), *make_tasks.long_tasks()]
    assert len({task.id for task in tasks}) == len({task.item.prompt for task in tasks}) == len(tasks)
    assert max(len(task.item.prompt) for task in made()) <= SHORT
    assert {8 <= task.item.max_tokens <= 256 for task in made()} == {True}


def test_items_of_a_passage_share_a_cluster_and_no_other_does() -> None:
    passages = defaultdict(set)
    for task in made():
        if task.item.cluster:
            body = max(task.item.prompt.split("\n\n"), key=len)
            passages[task.item.cluster].add((task.kind, body))
    assert (
        len(passages)
        == len({next(iter(bodies)) for bodies in passages.values()})
        == sum(make_tasks.PASSAGES) + max(make_tasks.TEXTS)
    )
    assert {len(bodies) for bodies in passages.values()} == {1}
    assert {task.kind for task in made() if task.item.cluster} == {"lookup", "summary"}


def test_a_new_item_changes_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept answers stay of use: only the new items are asked."""
    before = {task.id: task.line() for task in made() if task.kind == "sorting"}
    rows = make_tasks.MADE["sorting"]
    monkeypatch.setitem(make_tasks.MADE, "sorting", (*rows, (sums.plain, (1, 1, 1, 1, 1))))
    after = {task.id: task.line() for task in make_tasks.tasks() if task.kind == "sorting"}
    assert len(after) == len(before) + len(make_tasks.LEVELS)
    assert {name: line for name, line in after.items() if name in before} == before
