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
# class: (maker, items of each level); the hard levels have fewer, as an item of theirs takes up to ten times as long.
MADE: Final[dict[str, tuple[tuple[Maker, tuple[int, ...]], ...]]] = {
    "arithmetic": (
        (sums.plain, (3, 3, 2, 1, 1)), (sums.word, (3, 3, 2, 1, 1)), (sums.fraction, (1, 1, 1, 1, 1)), (sums.percent, (2, 2, 1, 1, 1)),
        (sums.units, (2, 1, 1, 1, 1)), (sums.algebra, (2, 2, 1, 1, 1)), (sums.journey, (2, 2, 1, 1, 1)),
    ),
    "reasoning": (
        (thinking.order, (3, 3, 2, 1, 1)), (thinking.date, (3, 2, 2, 2, 1)), (thinking.clock, (1, 2, 1, 1, 1)),
        (thinking.sequence, (1, 2, 2, 1, 1)), (thinking.truth, (2, 2, 1, 1, 1)),
    ),
    "extraction": ((structured.extraction, (9, 9, 6, 4, 3)),),
    "json": ((structured.writing, (6, 6, 4, 3, 2)),),
    "tool_call": ((structured.tool_call, (8, 4, 4, 3, 2)),),
    "instruction": (
        (writing.exact_sentences, (3, 3, 2, 1, 1)), (writing.listing, (3, 2, 2, 1, 1)), (writing.case, (1, 2, 1, 1, 1)),
        (writing.edges, (3, 2, 1, 1, 1)), (writing.without, (1, 1, 1, 1, 1)),
    ),
    "copying": ((writing.copy, (4, 4, 2, 2, 1)), (writing.turned, (2, 1, 1, 1, 1))),
    "sorting": ((writing.numbers, (3, 2, 2, 1, 1)), (writing.words, (2, 2, 2, 1, 1))),
}  # fmt: skip
PASSAGES: Final = (3, 3, 2, 1, 1)
"""Passages to look something up in, per level; each has four questions."""
SCENES: Final = 5
TEXTS: Final = (15, 15, 15, 8, 7)
"""Texts to summarize, per level; every text has a task of each level that it is used for."""


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
        for n in range(max(counts[level - 1] for _, counts in MADE[kind])):
            for make in (make for make, counts in MADE[kind] if n < counts[level - 1]):
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
    """The questions of a level, passage by turns."""
    found: dict[int, list[Item]] = {}
    for level, count, length in zip(LEVELS, PASSAGES, passages.LENGTHS, strict=True):
        streams = [random.Random(f"{SEED}/lookup/{level}/{n}") for n in range(count)]
        each = [passages.lookups(r, level, f"passage-{level}-{n + 1}", length) for n, r in enumerate(streams)]
        found[level] = [item for row in zip(*each, strict=True) for item in row]
    return found


def _summaries() -> dict[int, list[Item]]:
    streams = [random.Random(f"{SEED}/summary/{n}") for n in range(max(TEXTS))]
    texts = [passages.summaries(r, n % SCENES, f"text-{n + 1:02d}") for n, r in enumerate(streams)]
    return {level: [text[level] for text in texts[:count]] for level, count in zip(LEVELS, TEXTS, strict=True)}


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
