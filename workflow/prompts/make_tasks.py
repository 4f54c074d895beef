"""Make `config/prompts/tasks.jsonl` and `tasks_long.jsonl`: `PYTHONPATH=workflow python -m prompts.make_tasks`.

Every item has a random stream of its own, named after it, so that a new item changes no other. Within a class the levels
take turns, so that the first k of each class are easy and hard alike; across classes each comes in proportion.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from quantbench.files import write_text

from prompts import knowledge, passages, programs, structured, sums, thinking, tongues, writing
from prompts.item import Item, Maker

SEED: Final = "quantbench tasks 1"
SOURCE: Final = "quantbench, CC0-1.0"
LEVELS: Final = (1, 2, 3, 4, 5)
FOLDER: Final = Path(__file__).parents[2] / "config/prompts"
# class: (maker, items of each level)
MADE: Final[dict[str, tuple[tuple[Maker, int], ...]]] = {
    "arithmetic": ((sums.plain, 2), (sums.word, 2), (sums.fraction, 1), (sums.percent, 1), (sums.units, 1), (sums.algebra, 1), (sums.journey, 1)),
    "reasoning": ((thinking.order, 2), (thinking.date, 2), (thinking.clock, 1), (thinking.sequence, 2), (thinking.truth, 1)),
    "extraction": ((structured.extraction, 6),),
    "json": ((structured.writing, 4),),
    "tool_call": ((structured.tool_call, 4),),
    "instruction": ((writing.exact_sentences, 2), (writing.listing, 2), (writing.case, 2), (writing.edges, 2), (writing.without, 1)),
    "copying": ((writing.copy, 2), (writing.turned, 2)),
    "sorting": ((writing.numbers, 2), (writing.words, 2)),
}  # fmt: skip
SCENES, TEXTS = 5, 13
PASSAGES: Final = 2
"""Passages per level; each has four questions."""


class Task(NamedTuple):
    """An item with its place: class, level, name."""

    kind: str
    level: int
    id: str
    item: Item

    def line(self) -> dict[str, Any]:
        """Its line in the file."""
        item = self.item
        cluster = {"cluster": item.cluster} if item.cluster else {}
        return {
            "id": self.id, "class": self.kind, "level": self.level, **cluster, "language": item.language, "prompt": item.prompt,
            "max_tokens": item.max_tokens, "checks": list(item.checks), "source": SOURCE,
        }  # fmt: skip


def tasks() -> list[Task]:
    """All items of `tasks.jsonl` in file order, with their reference answers."""
    found = {kind: _levels(kind, _made(kind)) for kind in MADE}
    found["fact"] = _levels("fact", _numbered(knowledge.facts()))
    found["refusal"] = _levels("refusal", _numbered(knowledge.requests()))
    found["code"] = _levels("code", _numbered(programs.programs()))
    found["second_language"] = _levels("second_language", _numbered(tongues.tongues(SEED)))
    found["lookup"] = _levels("lookup", _numbered(_lookups()))
    found["summary"] = _levels("summary", _numbered(_summaries()))
    places = [((n + 0.5) / len(many), task) for many in found.values() for n, task in enumerate(many)]
    return [task for _, task in sorted(places, key=lambda place: place[0])]


def long_tasks() -> list[Task]:
    """All items of `tasks_long.jsonl`."""
    found = []
    for kilo, items in passages.long_lookups(SEED):
        found += [Task("lookup", 5, f"{items[0].cluster}-{n + 1}", item) for n, item in enumerate(items) if kilo]
    return found


Named = tuple[str, Item]
"""An item with its name within its class and level, which stays when others are added behind it."""


def _made(kind: str) -> dict[int, list[Named]]:
    found: dict[int, list[Named]] = {level: [] for level in LEVELS}
    asked: set[str] = set()
    for level in LEVELS:
        for n in range(max(count for _, count in MADE[kind])):
            for make in (make for make, count in MADE[kind] if n < count):
                stream = f"{SEED}/{kind}/{make.__name__}/{level}/{n}"
                found[level].append((f"{make.__name__}-{n + 1}", _fresh(make, stream, level, asked)))
    return found


def _numbered(items: dict[int, list[Item]]) -> dict[int, list[Named]]:
    return {level: [(f"{n + 1:02d}", item) for n, item in enumerate(many)] for level, many in items.items()}


def _fresh(make: Maker, name: str, level: int, asked: set[str]) -> Item:
    """An item that was not asked yet; its further tries have streams of their own."""
    for attempt in range(100):
        item = make(random.Random(f"{name}/{attempt}"), level)
        if item.prompt not in asked:
            asked.add(item.prompt)
            return item
    raise ValueError(f"{name}: no further item")


def _lookups() -> dict[int, list[Item]]:
    found: dict[int, list[Item]] = {}
    for level in LEVELS:
        each = [
            passages.lookups(
                random.Random(f"{SEED}/lookup/{level}/{n}"),
                level,
                f"passage-{level}-{n + 1}",
                passages.LENGTHS[level - 1],
            )
            for n in range(PASSAGES)
        ]
        found[level] = [item for row in zip(*each, strict=True) for item in row]
    return found


def _summaries() -> dict[int, list[Item]]:
    texts = [
        passages.summaries(random.Random(f"{SEED}/summary/{n}"), n % SCENES, f"text-{n + 1:02d}") for n in range(TEXTS)
    ]
    return {level: [text[level] for text in texts] for level in LEVELS}


def _levels(kind: str, items: dict[int, list[Named]]) -> list[Task]:
    """A class with its levels in turn, spread so that levels with fewer items last as long."""
    places = [
        (n / len(items[level]), Task(kind, level, f"{kind}-{level}-{name}", item))
        for level in LEVELS
        for n, (name, item) in enumerate(items[level])
    ]
    return [task for _, task in sorted(places, key=lambda place: place[0])]


def text(made: list[Task]) -> str:
    """The file of these tasks."""
    return "".join(orjson.dumps(task.line()).decode() + "\n" for task in made)


def main() -> None:
    for name, made in (("tasks", tasks()), ("tasks_long", long_tasks())):
        write_text(FOLDER / f"{name}.jsonl", text(made))
        sys.stdout.write(f"{name}.jsonl: {len(made)} items\n")


if __name__ == "__main__":
    main()
