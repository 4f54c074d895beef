"""To do as told: constraints on what is written, copies, sorted lists."""

from __future__ import annotations

import random
import string

from prompts.item import CITIES, NAMES, THINGS, Check, Item, at_most

WORDS = (
    "apple", "river", "stone", "cloud", "garden", "winter", "bridge", "candle", "forest", "market", "pencil", "silver",
    "tunnel", "violet", "window", "yellow", "harbour", "island", "jacket", "kitchen", "ladder", "meadow", "needle",
    "orange", "pocket", "rabbit", "saddle", "ticket", "valley", "walnut", "zebra", "anchor", "basket", "cherry",
    "dragon", "engine", "feather", "guitar", "hammer", "insect",
)  # fmt: skip
TOPICS = ("dogs", "rain", "trains", "bread", "the sea", "books", "trees", "the moon")


def _sentences(count: int, topic: str) -> str:
    more = (
        "Many people like them a lot.",
        "Some of us see it every day.",
        "Nobody knows all of it.",
        "We could talk for hours.",
        "That is all for now.",
    )
    return " ".join([f"This is about {topic}.", *more][:count])


def exact_sentences(r: random.Random, level: int) -> Item:
    count, topic = (1, 2, 3, 4, 5)[level - 1], r.choice(TOPICS)
    most = {"type": "max_words", "value": count * 12}
    checks: list[Check] = [
        {"type": "sentences", "min": count, "max": count},
        {"type": "contains", "any": [topic.removeprefix("the ").rstrip("s")]},
    ]
    task = f"Write exactly {count} short sentence{'s' if count > 1 else ''} about {topic}."
    if level >= 4:
        checks.append(most)
        task += f" Use at most {count * 12} words in all."
    return Item(task, 24 * count + 24, checks, _sentences(count, topic), _sentences(count + 1, topic))


def listing(r: random.Random, level: int) -> Item:
    things, more = r.choice((("fruits", "apple"), ("animals", "dog"), ("colours", "red"), ("countries", "France")))
    count = (2, 4, 6, 9, 12)[level - 1]
    checks: list[Check] = [{"type": "list_length", "min": count} | ({"max": count} if level > 1 else {})]
    task = f"Write a list of {things}."
    if level >= 2:
        task = f'List exactly {count} {things}, one per line, each line beginning with "- ". Write nothing else.'
        checks.append({"type": "starts_with", "any": ["- "]})
    right = "\n".join(f"- {more}{'' if n == 0 else chr(96 + n)}" for n in range(count))
    if level >= 4:
        task += " Write all in lower case."
        checks.append({"type": "letter_case", "value": "lower"})
        right = right.lower()
    return Item(task, 8 * count + 16, checks, right, right + "\n- one more" if level > 1 else f"I like {more}s.")


def case(r: random.Random, level: int) -> Item:
    name, city = r.choice(NAMES), r.choice(CITIES)
    upper = r.random() < 0.5 or level == 1
    how = "upper case (capital letters)" if upper else "lower case (no capital letters)"
    value: Check = {"type": "letter_case", "value": "upper" if upper else "lower"}
    if level == 1:
        word = r.choice(WORDS)
        return Item(
            f'Write the word "{word}" in capital letters.',
            16,
            [{"type": "contains", "any": [word.upper()], "match_case": True}],
            word.upper(),
            word.title(),
        )
    if level <= 3:
        text = (
            f"{name} lives in {city}"
            if level == 2
            else f"{name} travels from {city} to the sea and reads three books about old ships"
        )
        want = text.upper() if upper else text.lower()
        return Item(
            f"Rewrite this sentence in {how}. Give only the sentence.\n\n{text}.",
            48,
            [{"type": "exact_text", "value": want, "match_case": True}],
            f"{want}.",
            f"{text}.",
        )
    topic = r.choice(TOPICS)
    checks = [
        value,
        {"type": "sentences", "min": level - 2, "max": level - 2},
        {"type": "contains", "any": [topic.rstrip("s")]},
    ]
    right = _sentences(level - 2, topic)
    right = right.upper() if upper else right.lower()
    return Item(
        f"Write exactly {level - 2} sentences about {topic}. The whole answer must be in {how}.",
        96,
        checks,
        right,
        _sentences(level - 2, topic),
    )


def edges(r: random.Random, level: int) -> Item:
    """How it begins and ends."""
    topic, word, other = r.choice(TOPICS), *(w.capitalize() for w in r.sample(WORDS, 2))
    about: Check = {"type": "contains", "any": [topic.removeprefix("the ").rstrip("s")]}
    start: Check = {"type": "starts_with", "any": [word], "match_case": True}
    end: Check = {"type": "ends_with", "any": ["That is all."], "match_case": True}
    if level == 1:
        return Item(f'Say "{word}!" to me.', 16, [start, at_most(6)], f'"{word}!"', f"I say {word} to you.")
    if level == 2:
        return Item(
            f'Write one sentence about {topic} that begins with the word "{word}".',
            48,
            [start, about],
            f"{word} and {topic} go together.",
            f"I like {topic}, {word}.",
        )
    if level == 3:
        return Item(
            f'Write two sentences about {topic}. End your answer with the exact words "That is all."',
            80,
            [about, end],
            f"I like {topic}. That is all.",
            f"I like {topic}. That's all.",
        )
    task = (
        f'Write a note about {topic}. It must begin with the word "{word}" and end with the exact words "That is all."'
    )
    checks = [about, start, end]
    right = f"{word} and {topic} go together. That is all."
    if level == 5:
        task += f' Use at most 25 words, no comma, and the word "{other}" once.'
        checks += [
            at_most(25),
            {"type": "not_contains", "any": [","]},
            {"type": "contains", "any": [other], "whole_words": True},
        ]
        right = f"{word} and {topic} go with {other}. That is all."
    return Item(task, 96, checks, right, right.replace(" That is", " And that is").replace("is all", "was it"))


def without(r: random.Random, level: int) -> Item:
    """Words or letters that must not be in it."""
    topic, bad = {
        1: ("a cat", ("dog",)), 2: ("the sun", ("hot", "light")), 3: ("summer", ("sun", "hot", "beach", "warm")),
        4: ("a city by night", ("dark", "light", "street", "sleep", "the moon")), 5: ("a small animal", ("e",)),
    }[level]  # fmt: skip
    about = topic.split()[-1] if level < 4 else topic.split()[1] if level == 4 else ""
    checks: list[Check] = [
        {"type": "not_contains", "any": list(bad)},
        {"type": "min_words", "value": (4, 6, 8, 12, 6)[level - 1]},
    ]
    checks += [{"type": "contains", "any": [about]}] if about else [{"type": "max_words", "value": 20}]
    banned = " or ".join(f'"{word}"' for word in bad)
    task = (f"Write one sentence about {topic}. Do not use the word{'s' if len(bad) > 1 else ''} {banned}." if level < 5
            else "Write a sentence of 6 to 20 words about a small animal in which the letter e does not occur at all.")  # fmt: skip
    right = {1: "A cat likes to sit by the door.", 2: "The sun rises in the east every single day.", 3: "In summer we often swim in the lake and eat ice.",
             4: "Many people in the city go home late, and buses carry them over the old bridge.", 5: "A tiny ant runs up a tall plant to find food."}[level]  # fmt: skip
    return Item(task, (40, 40, 48, 64, 64)[level - 1], checks, right, f"{right[:-1]} with a {bad[0]}.")


def copy(r: random.Random, level: int) -> Item:
    if level == 1:
        text = r.choice(WORDS)
        return _copy(f"Repeat this word: {text}", text, 12, "word")
    if level == 2:
        text = f"{r.choice(NAMES)} has a {r.choice(THINGS)} and two books."
        return _copy(f"Repeat this sentence exactly, and write nothing else.\n\n{text}", text, 32, "text")
    if level == 3:
        text = ", ".join(r.sample(WORDS, 12))
        return _copy(f"Copy this list exactly, and write nothing else.\n\n{text}", text, 64, "text")
    letters = string.ascii_uppercase + string.digits
    if level == 4:
        text = "-".join("".join(r.choice(letters) for _ in range(5)) for _ in range(6))
        return _copy(f"Copy this code exactly, and write nothing else.\n\n{text}", text, 64, "text")
    text = " ".join("".join(r.choice("0123456789abcdef") for _ in range(8)) for _ in range(16))
    return _copy(
        f"Copy these hexadecimal numbers exactly, in one line, and write nothing else.\n\n{text}", text, 256, "text"
    )


def _copy(task: str, text: str, tokens: int, kind: str) -> Item:
    at = len(text) // 2 if text[len(text) // 2].isalnum() else len(text) // 2 + 1
    near = f"{text[:at]}{'x' if text[at] != 'x' else 'y'}{text[at + 1 :]}"
    return Item(task, tokens, [{"type": "exact_text", "value": text, "match_case": kind != "word"}], f'"{text}"', near)


def turned(r: random.Random, level: int) -> Item:
    """A copy with a change: of case, of order, of letters."""
    count = (2, 3, 5, 8, 14)[level - 1]
    picked = r.sample(WORDS, count)
    if level == 1:
        wanted, task = picked, f"Copy this list and write nothing else.\n\n{', '.join(picked)}"
    elif level <= 3:
        wanted, task = picked[::-1], "Write these words in reverse order, separated by commas. Give only the words."
    elif level == 4:
        wanted, task = (
            [w[-1] for w in picked],
            "Write the last letter of each of these words, in order, separated by commas. Give only the letters.",
        )
    else:
        wanted, task = (
            [w[::-1] for w in picked[::2]],
            "Take every second word of this list, beginning with the first one, and spell each backwards. Give only these, separated by commas.",
        )
    question = task if level == 1 else f"{task}\n\n{', '.join(picked)}"
    near = [*wanted[:-2], wanted[-1], wanted[-2]] if wanted[-1] != wanted[-2] else [*wanted[:-1], "x"]
    return Item(
        question,
        (16, 24, 32, 48, 96)[level - 1],
        [{"type": "ordered_list", "items": wanted}],
        ", ".join(wanted),
        ", ".join(near),
    )


def numbers(r: random.Random, level: int) -> Item:
    count, most = ((3, 10), (5, 100), (8, 100), (15, 1000), (30, 10000))[level - 1]
    row = r.sample(range(1, most), count)
    down = level >= 3 and r.random() < 0.5
    return _sorted(
        "numbers",
        "from the largest to the smallest" if down else "from the smallest to the largest",
        row,
        sorted(row, reverse=down),
        5 * count + 16,
    )


def words(r: random.Random, level: int) -> Item:
    count = (3, 4, 8, 16, 30)[level - 1]
    row = r.sample(WORDS, count)
    if level < 5:
        return _sorted("words", "in alphabetical order", row, sorted(row), 4 * count + 16)
    return _sorted(
        "words",
        "by length, the shortest first, and words of equal length in alphabetical order",
        row,
        sorted(row, key=lambda w: (len(w), w)),
        4 * count + 16,
    )


def _sorted(
    kind: str, how: str, row: list[object] | list[int] | list[str], wanted: list[int] | list[str], tokens: int
) -> Item:
    if len(row) <= 3:
        shown = {
            "numbers": "9, 2, 5 → 2, 5, 9\n30, 20, 10 → 10, 20, 30",
            "words": "pear, apple, fig → apple, fig, pear\nsun, moon, earth → earth, moon, sun",
        }[kind]
        question = f"Sort the {kind} {how}.\n\n{shown}\n{', '.join(map(str, row))} →"
        return Item(
            question,
            tokens,
            [{"type": "ordered_list", "items": wanted}],
            f"{', '.join(map(str, row))} → {', '.join(map(str, wanted))}",
            ", ".join(map(str, row if list(row) != list(wanted) else wanted[::-1])),
        )
    question = f"Sort these {kind} {how}. Give only the sorted list, separated by commas.\n\n{', '.join(map(str, row))}"
    near = [*wanted[:-2], wanted[-1], wanted[-2]]
    return Item(
        question,
        tokens,
        [{"type": "ordered_list", "items": wanted}],
        f"Sorted: {', '.join(map(str, wanted))}.",
        ", ".join(map(str, near)),
    )
