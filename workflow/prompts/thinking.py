"""Reasoning: orders, dates, clocks, sequences, truths and lies."""

from __future__ import annotations

import datetime
import itertools
import random

from prompts.item import DAYS, MONTHS, NAMES, Check, Item, number, says


def order(r: random.Random, level: int) -> Item:
    """Who is the tallest of two, three, four, five or seven; told in any order, both ways round."""
    names = r.sample(NAMES, (2, 3, 4, 5, 7)[level - 1])
    told = []
    for tall, small in itertools.pairwise(names):
        told.append(
            f"{tall} is taller than {small}." if level < 3 or r.random() < 0.5 else f"{small} is smaller than {tall}."
        )
    r.shuffle(told)
    if level == 1:
        tall, small = names
        checks: list[Check] = [says(tall), {"type": "not_contains", "any": [f"{small} is tall", f"is {small}"]}]
        return Item(
            f"{told[0]} Who is taller, {' or '.join(sorted(names))}?",
            24,
            checks,
            f"{tall} is taller than {small}.",
            f"{small} is taller.",
        )
    place = 0 if level < 4 else len(names) // 2 if level == 5 else 1
    asked = (
        ("the tallest", "the second tallest")[place]
        if place < 2
        else f"number {place + 1} when they are ordered from tall to small"
    )
    right, wrong = names[place], names[place + 1]
    if level == 5:
        question = f'{" ".join(told)} Who is {asked}? End your answer with the name only, after "Answer:".'
        return Item(question, 192, [{"type": "ends_with", "any": [right]}], f"Answer: {right}", f"Answer: {wrong}")
    question = f"{' '.join(told)} Who is {asked}? Answer with the name only."
    others = [name for name in names if name != right]
    return Item(question, 16, [says(right), {"type": "not_contains", "any": others}], f"**{right}**", wrong)


def date(r: random.Random, level: int) -> Item:
    if level <= 3:
        today, ahead = r.randrange(7), (1, 2, r.randrange(8, 20))[level - 1]
        later = DAYS[(today + ahead) % 7]
        question = (f"Which day of the week comes after {DAYS[today]}?" if level == 1
                    else f"Today is {DAYS[today]}. Which day of the week is it in {ahead} days? Answer with the day only.")  # fmt: skip
        others = [day for day in DAYS if day not in (later, DAYS[today])]
        return Item(
            question,
            24,
            [says(later), {"type": "not_contains", "any": others}],
            f"It is {later}.",
            f"It is {DAYS[(today + ahead + 1) % 7]}.",
        )
    start = datetime.date(2031, r.randrange(1, 12), r.randrange(15, 28))
    ahead = r.randrange(14, 31) if level == 4 else r.randrange(80, 200)
    end = start + datetime.timedelta(ahead)
    day, month = end.day, MONTHS[end.month - 1]
    question = (f"Which date is {ahead} days after {start.day} {MONTHS[start.month - 1]} 2031? "
                "End your answer with day and month, such as 5 May.")  # fmt: skip
    ends = [f"{day} {month}", f"{month} {day}", f"{day} {month} 2031", f"{month} {day}, 2031"]
    near = end + datetime.timedelta(1)
    return Item(
        question,
        192,
        [{"type": "ends_with", "any": ends}],
        f"It is {day} {month}.",
        f"It is {near.day} {MONTHS[near.month - 1]}.",
    )


def clock(r: random.Random, level: int) -> Item:
    if level == 1:
        hour, n = r.randrange(1, 8), r.randrange(1, 4)
        return Item(
            f"It is {hour} o'clock. What time is it {n} hours later?",
            32,
            [says(str(hour + n), f"{hour + n}:00")],
            f"{hour + n}:00",
            f"{hour + n + 1}:00",
        )
    start = r.randrange(7, 12) * 60 + r.choice((5, 10, 20, 35))
    length = (r.randrange(2, 5) * 5, r.randrange(60, 170), r.randrange(610, 900), r.randrange(300, 700))[level - 2]
    shift = r.choice((-5, -3, 2, 4)) * 60 if level == 5 else 0
    if level == 4:
        start += 720

    def told(minutes: int) -> str:
        return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"

    if level == 2:
        return Item(f"A film begins at {told(start)} and ends at {told(start + length)}. How many minutes does it last? Answer with the number only.",
                    24, [number(length)], str(length), str(length + 5))  # fmt: skip
    end = start + length + shift
    zone = (
        f" The clocks there show {abs(shift) // 60} hours {'less' if shift < 0 else 'more'} than those at home."
        if shift
        else ""
    )
    question = (f"A journey begins at {told(start)} and takes {length // 60} hours and {length % 60} minutes.{zone} "
                f"What time is it {'there ' if shift else ''}at the end? Use the 24-hour clock (hh:mm) and end your answer with the time.")  # fmt: skip
    ends = {told(end), told(end).lstrip("0") if not told(end).startswith("00") else told(end)}
    return Item(question, 160, [{"type": "ends_with", "any": sorted(ends)}], f"It is {told(end)}.", told(end + 60))


def sequence(r: random.Random, level: int) -> Item:
    a, d = r.randrange(1, 6), r.randrange(2, 4)
    if level == 1:
        row = [d * n for n in range(1, 6)]
    elif level == 2:
        row = [a + 7 * n for n in range(6)]
    elif level == 3:
        row = [a * 2**n for n in range(6)]
    elif level == 4:
        row = [a + n * n + d * n for n in range(1, 8)]
    else:
        row = [a, a + d]
        while len(row) < 8:
            row.append(2 * row[-1] - row[-2] + len(row) * d if d == 3 else row[-1] + 2 * row[-2])
    if level == 1:
        question = f"Continue each row with the next number.\n\n1, 2, 3, 4 → 5\n5, 10, 15, 20 → 25\n{', '.join(map(str, row[:-1]))} →"
        return Item(question, 16, [number(row[-1])], f"→ {row[-1]}", str(row[-1] + 1))
    question = f"Which number comes next? {', '.join(map(str, row[:-1]))}, … {'Answer with the number only.' if level < 4 else 'End your answer with the number.'}"
    return Item(question, 24 if level < 4 else 192, [number(row[-1])], str(row[-1]), str(row[-1] + 1))


def truth(r: random.Random, level: int) -> Item:
    """What follows; then who lies, with as many speakers as the level has, and one solution."""
    if level == 1:
        a, b = r.sample(("rose", "tulip", "daisy", "lily"), 2)
        name = r.choice(NAMES)
        return Item(f"Every {a} is a flower. {name} holds a {a}. What does {name} hold: a flower or a stone? Answer with one word.",
                    16, [says("flower"), {"type": "not_contains", "any": ["stone"]}], "A flower.", f"A stone, not a {b}.")  # fmt: skip
    if level <= 3:
        people = r.sample(NAMES, level + 1)
        pets = r.sample(("a cat", "a dog", "a bird", "a horse"), level + 1)
        told = [f"{name} has {pet}." for name, pet in zip(people[:-1], pets[:-1], strict=True)]
        r.shuffle(told)
        if level == 2:
            question = f"{' '.join(told)} Who has {pets[0]}? Answer with the name only."
            return Item(
                question, 16, [says(people[0]), {"type": "not_contains", "any": people[1:]}], people[0], people[1]
            )
        question = (f"{listed_names(people)} have {', '.join(sorted(pets))}; each has another animal. {' '.join(told)} "
                    f"Who has {pets[-1]}? Answer with the name only.")  # fmt: skip
        return Item(
            question, 16, [says(people[-1]), {"type": "not_contains", "any": people[:-1]}], people[-1], people[0]
        )
    count = level - 1
    while True:
        people = r.sample(NAMES, count)
        claims = [(r.choice([m for m in range(count) if m != n]), r.random() < 0.5) for n in range(count)]
        worlds = [w for w in itertools.product((True, False), repeat=count) if sum(w) == 1
                  and all(w[n] == (w[m] == lies_not) for n, (m, lies_not) in enumerate(claims))]  # fmt: skip
        if len(worlds) == 1:
            break
    told = [
        f'{people[n]} says: "{people[m]} {"tells the truth" if ok else "lies"}."' for n, (m, ok) in enumerate(claims)
    ]
    honest = worlds[0].index(True)
    question = (f"Exactly one of {listed_names(people)} always tells the truth; the others always lie. {' '.join(told)} "
                'Who tells the truth? End your answer with the name only, after "Answer:".')  # fmt: skip
    return Item(question, 192, [{"type": "ends_with", "any": [people[honest]]}], f"So it is one of them.\nAnswer: {people[honest]}",
                f"Answer: {people[honest - 1]}")  # fmt: skip


def listed_names(people: list[str]) -> str:
    return f"{', '.join(people[:-1])} and {people[-1]}"
