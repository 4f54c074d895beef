"""What is to be found in a passage, and what is to be kept of one: lookup (short and long) and summaries."""

from __future__ import annotations

import random
from collections.abc import Sequence

from prompts.item import CITIES, DAYS, NAMES, THINGS, Item, at_most, number, says

COLOURS = ("red", "green", "blue", "yellow", "white", "grey", "brown", "black")
ROOMS = ("hall", "cellar", "attic", "office", "kitchen", "library", "garage", "workshop", "studio", "archive")
FILLER = (
    "{name} from {city} paid {n} euros for a {colour} {thing} on {day}.",
    "The {colour} {thing} in the {room} was repaired by {name} after {n} days.",
    "On {day} {name} carried a {thing} from the {room} to a shop in {city}.",
    "In {city} a {thing} of {colour} wood is kept in the {room} of the town house.",
    "{name} wrote to {city} about {n} chairs, but nobody has answered yet.",
    "A {colour} van left {city} on {day} with {n} parcels for the {room}.",
    "It rained in {city} for {n} hours, so {name} stayed in the {room}.",
    "Near {city} a path with {n} steps leads down to an old {colour} mill.",
)
DEPTHS = (0.1, 0.5, 0.9)
"""Where in a passage a needle lies, as a share of its length."""
LENGTHS = (6, 14, 20, 25, 29)
"""Sentences of a passage per level, beside its needles: 150 to 800 tokens."""


def filler(r: random.Random) -> str:
    return r.choice(FILLER).format(
        name=r.choice(NAMES), city=r.choice(CITIES), colour=r.choice(COLOURS), thing=r.choice(THINGS), room=r.choice(ROOMS),
        day=r.choice(DAYS), n=r.randrange(11, 90),
    )  # fmt: skip


def code(r: random.Random) -> int:
    return r.randrange(1001, 9999)


def hidden(r: random.Random, sentences: int, needles: Sequence[str], at: Sequence[float]) -> str:
    """A passage with needles at these depths, in paragraphs of five sentences."""
    lines = [filler(r) for _ in range(sentences)]
    for needle, depth in sorted(zip(needles, at, strict=True), key=lambda pair: -pair[1]):
        lines.insert(round(depth * sentences), needle)
    return "\n\n".join(" ".join(lines[n : n + 5]) for n in range(0, len(lines), 5))


ASK = "Read the text and answer the question below it.\n\n{passage}\n\nQuestion: {question}"


def lookups(r: random.Random, level: int, cluster: str, sentences: int) -> list[Item]:
    """Four questions about one passage: a needle at each depth, and one that needs several of them."""
    owners = r.sample(NAMES, 12)
    count = (3, 3, 4, 6, 12)[level - 1]
    codes = r.sample(range(1001, 9999), count)
    needles = [f"The code of {owner}'s locker is {number_}." for owner, number_ in zip(owners, codes, strict=False)]
    at = [(n + 0.5) / count for n in range(count)]
    passage = hidden(r, sentences, needles, at)

    def item(question: str, tokens: int, *checks: dict[str, object], right: str, wrong: str) -> Item:
        return Item(ASK.format(passage=passage, question=question), tokens, checks, right, wrong, cluster)

    found = []
    for depth in DEPTHS:
        n = min(int(depth * count), count - 1)
        others = [str(other) for other in codes if other != codes[n]]
        found.append(
            item(f"What is the code of {owners[n]}'s locker? Answer with the code only.", 16, says(str(codes[n])),
                 {"type": "not_contains", "any": others}, right=f"It is **{codes[n]}**.", wrong=f"{codes[n - 1]}")
        )  # fmt: skip
    if level == 1:
        found.append(item(f"Whose locker has the code {codes[1]}? Answer with the name only.", 16, says(owners[1]), at_most(10),
                          right=f"{owners[1]}'s", wrong=owners[0]))  # fmt: skip
    elif level == 2:
        found.append(item("How many codes of lockers are in the text? Answer with the number only.", 16, number(count),
                          right=f"There are {count}.", wrong=str(count + 1)))  # fmt: skip
    else:
        row = sorted(range(count), key=lambda n: owners[n])
        order = "in the order of the text" if level < 5 else "in the alphabetical order of their owners"
        wanted = codes if level < 5 else [codes[n] for n in row]
        found.append(
            item(f"List the codes of all {count} lockers {order}, separated by commas. Give only the codes.", 16 + 8 * count,
                 {"type": "ordered_list", "items": wanted}, right=", ".join(map(str, wanted)),
                 wrong=", ".join(map(str, [*wanted[:-2], wanted[-1], wanted[-2]])))
        )  # fmt: skip
    return found


def long_lookups(seed: str) -> list[tuple[int, list[Item]]]:
    """(about how many thousands of tokens, items): passages for models with a context to try."""
    found = []
    for kilo, passages in ((4, 2), (8, 1), (16, 1)):
        for n in range(passages):
            r = random.Random(f"{seed}/long/{kilo}/{n}")
            found.append((kilo, lookups(r, 5 if n == 0 else 4, f"long-{kilo}k-{n + 1}", kilo * 50)))
    return found


# (what it is about, sentences with facts, one-sentence summary, facts: words of which a summary has one)
Scene = tuple[str, str, str, dict[str, tuple[str, ...]]]


def scene(r: random.Random, kind: int) -> Scene:
    city, other = r.sample(CITIES, 2)
    name, n, day = r.choice(NAMES), r.randrange(3, 18), r.choice(DAYS)
    cost = f"{r.randrange(12, 95)},000"
    price = (cost, cost.replace(",000", " 000"), cost.replace(",", ""), cost.replace(",000", "k"))
    scenes: tuple[Scene, ...] = (
        ("bridge", f"The council of {city} met on {day} to talk about the old stone bridge. Engineers had found cracks in two of its arches and "
         f"asked that lorries no longer use it. Shop owners feared that deliveries would take longer. In the end the council decided to close "
         f"the bridge to lorries for {n} months and to repair the arches, at a cost of {cost} euros. Cars and buses may still cross it.",
         f"{city} closes its old bridge to lorries for {n} months and repairs its cracked arches for {cost} euros.",
         {"bridge": ("bridge",), "lorries": ("lorr", "truck", "heavy"), city: (city,), str(n): (str(n),), cost: price}),
        ("library", f"From next {day} the public library of {city} will be open until ten in the evening. The library's head, {name}, says that students "
         f"had asked for it for years. Two more people will work there, which costs the city {cost} euros a year. The trial lasts {n} months; "
         f"then the number of visitors will decide whether the library stays open late.",
         f"The library of {city} will stay open until ten for a trial of {n} months that costs {cost} euros.",
         {"library": ("library",), "late": ("until ten", "until 10", "late", "evening", "longer"), city: (city,), str(n): (str(n),), cost: price}),
        ("ferry", f"The ferry between {city} and {other} did not sail on {day} because its engine had failed. About {n * 20} passengers had to wait in the "
         f"harbour until buses came. The company has ordered a new engine for {cost} euros and hopes that the ferry will sail again in {n} days. "
         f"Tickets remain valid or will be paid back, said {name}, who speaks for the company.",
         f"The ferry from {city} is out of service for {n} days until its failed engine is replaced for {cost} euros.",
         {"ferry": ("ferry",), "engine": ("engine",), city: (city,), str(n): (str(n),), cost: price}),
        ("school", f"A school in {city} has planted a garden on its roof. {name}, who teaches biology, had the idea {n} years ago, but money was missing until "
         f"a bank gave {cost} euros. Now pupils grow beans, tomatoes and herbs, and the cook uses them at lunch. On hot days the garden also "
         f"keeps the rooms below cool.",
         f"A school in {city} now has a roof garden, {n} years after the idea, thanks to {cost} euros from a bank.",
         {"school": ("school", "pupils"), "garden": ("garden",), city: (city,), str(n): (str(n),), cost: price}),
        ("bees", f"{name} keeps bees on the hills near {city}. After a wet spring the bees made only {n} kilograms of honey, less than half of what they made last "
         f"year. {name} blames the rain, and a field of flowers that gave way to a car park. The loss comes to {cost} euros. Next year some hives "
         f"will be moved to {other}, where lime trees grow.",
         f"After a wet spring the bees near {city} made only {n} kilograms of honey, a loss of {cost} euros.",
         {"bees": ("bees", "beekeep", "hive"), "honey": ("honey",), city: (city,), str(n): (str(n),), cost: price}),
    )  # fmt: skip
    return scenes[kind]


def summaries(r: random.Random, kind: int, cluster: str) -> dict[int, Item]:
    """Five tasks about one text, one of each level."""
    topic, text, short, facts = scene(r, kind)
    keys = list(facts)
    near = f"The text is about a decision in {CITIES[-1] if CITIES[-1] not in text else CITIES[-2]} that many people talk of."

    def needs(*picked: str) -> list[dict[str, object]]:
        """Numbers and places as whole words, of other words their stems."""
        return [
            {"type": "contains", "any": list(facts[key])} | ({"whole_words": True} if key in keys[2:] else {})
            for key in picked
        ]

    def item(task: str, tokens: int, checks: list[dict[str, object]], right: str, wrong: str = near) -> Item:
        return Item(f"{task}\n\n{text}", tokens, checks, right, wrong, cluster)

    bullets = "\n".join(
        f"- {part}"
        for part in (
            f"It is about the {topic}, {facts[keys[1]][0]}.",
            f"The place is {keys[2]}.",
            f"It costs {keys[4]} euros and has to do with {keys[3]}.",
        )
    )
    words = short.split()
    return {
        1: item("Say in one or two sentences what this text is about.", 96,
                [*needs(keys[0]), {"type": "sentences", "min": 1, "max": 2}, at_most(60)], short),
        2: item("Write a title of at most ten words for this text. Give only the title.", 32,
                [*needs(keys[0]), at_most(10)], f'"{topic.capitalize()} in {keys[2]}"', f"{topic} {short}"),
        3: item("Summarize this text in one sentence of at most 35 words.", 80,
                [*needs(*keys[:2]), {"type": "sentences", "min": 1, "max": 1}, at_most(35)], short, f"{short} {short}"),
        4: item('Summarize this text in exactly three bullet points that begin with "- ". Name the place and the cost.', 128,
                [*needs(keys[0], keys[2], keys[4]), {"type": "list_length", "min": 3, "max": 3}, {"type": "starts_with", "any": ["- "]}], bullets, bullets.rpartition("\n")[0]),
        5: item(f"Summarize this text in one sentence of at most {len(words) + 4} words that names the place, the cost and the number {keys[3]}.", 80,
                [*needs(*keys), {"type": "sentences", "min": 1, "max": 1}, at_most(len(words) + 4)], short, short.replace(keys[4], "1,000")),
    }  # fmt: skip
