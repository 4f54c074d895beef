"""Answers that a program reads: JSON by instruction, extraction from text, arguments of a call."""

from __future__ import annotations

import json
import random
from typing import Any

from prompts.item import CITIES, DAYS, MONTHS, NAMES, THINGS, Item, compact, listed

ONLY = "Give only the JSON."


def _item(question: str, tokens: int, value: Any, wrong: Any) -> Item:
    """Right is the value, dressed as models do; wrong another value of the same shape."""
    return Item(question, tokens, [{"type": "json_value", "equals": value}],
                f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```", compact(wrong))  # fmt: skip


def _near(value: Any) -> Any:
    """The same shape with one thing that is not right: the last value."""
    if isinstance(value, dict):
        *_, last = value
        return value | {last: _near(value[last])}
    if isinstance(value, list):
        return [*value[:-1], _near(value[-1])]
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else f"{value}x"


def writing(r: random.Random, level: int) -> Item:
    """JSON as told."""
    if level == 1:
        name, age = r.choice(NAMES), r.randrange(20, 70)
        value: Any = {"name": name, "age": age}
        question = f'Write each person as JSON.\n\nAmy, 31 → {{"name": "Amy", "age": 31}}\nTom, 45 → {{"name": "Tom", "age": 45}}\n{name}, {age} →'
        return _item(question, 48, value, _near(value))
    if level == 2:
        value = {"name": r.choice(NAMES), "age": r.randrange(20, 70), "member": r.random() < 0.5}
        question = f'Write a JSON object with the keys "name", "age" and "member" for {value["name"]}, who is {value["age"]} years old and {"a" if value["member"] else "not a"} member. "member" is true or false. {ONLY}'
        return _item(question, 64, value, _near(value))
    rows = [
        (name, r.choice(CITIES), r.randrange(2, 30))
        for name in r.sample(NAMES, 2 if level == 3 else 4 if level == 4 else 6)
    ]
    table = "name,city,points\n" + "\n".join(f"{a},{b},{c}" for a, b, c in rows)
    records = [{"name": a, "city": b, "points": c} for a, b, c in rows]
    if level <= 4:
        return _item(
            f"Convert this CSV to a JSON array of objects; points are numbers. {ONLY}\n\n{table}",
            80 if level == 3 else 160,
            records,
            _near(records),
        )
    cities = r.sample(CITIES, 2)
    rows = [(name, cities[n % 2 if n else 0], points) for n, (name, _, points) in enumerate(rows)]
    table = "name,city,points\n" + "\n".join(f"{a},{b},{c}" for a, b, c in rows)
    grouped: dict[str, Any] = {
        city: {"names": sorted(a for a, b, _ in rows if b == city), "total": sum(c for _, b, c in rows if b == city)}
        for city in sorted(cities)
    }
    question = (f'Group this CSV by city: a JSON object with one key per city, whose value is an object with "names", the list of names in '
                f'alphabetical order, and "total", the sum of points. {ONLY}\n\n{table}')  # fmt: skip
    return _item(question, 192, grouped, _near(grouped))


def extraction(r: random.Random, level: int) -> Item:
    """What a text says, in the shape that is asked for."""
    name, city, age = r.choice(NAMES), r.choice(CITIES), r.randrange(20, 70)
    if level == 1:
        value: Any = {"name": name, "city": city}
        return _item(
            f'Return only a JSON object with the keys "name" and "city" for this sentence: {name} lives in {city}.',
            48,
            value,
            {"name": city, "city": name},
        )
    if level == 2:
        value = {"name": name, "age": age, "city": city}
        text = f"Our new colleague is called {name}. Born in {r.choice(CITIES)}, and {age} years old, {name} now lives in {city}."
        return _item(
            f'Return only a JSON object with the keys "name", "age" (a number) and "city" (where the person lives now) for this text: {text}',
            64,
            value,
            _near(value),
        )
    things = r.sample(THINGS, 3 if level < 5 else 5)
    amounts = [(r.randrange(1, 9), r.randrange(3, 60)) for _ in things]
    day, month = r.randrange(1, 28), r.randrange(1, 13)
    date = f"2031-{month:02d}-{day:02d}"
    if level == 3:
        value = {"customer": {"name": name, "city": city}, "date": date, "items": things}
        text = f"On {day} {MONTHS[month - 1]} 2031 {name}, who lives in {city}, ordered a {listed(things, 'and a')}."
        question = f'Return only a JSON object with "customer" (an object with "name" and "city"), "date" (YYYY-MM-DD) and "items" (an array of texts, in the order of the text) for: {text}'
        return _item(question, 96, value, _near(value))
    parts = [
        f"{n} {thing}s at {price} euros each" if n > 1 else f"one {thing} at {price} euros"
        for thing, (n, price) in zip(things, amounts, strict=True)
    ]
    lines = [{"thing": thing, "amount": n, "price": price} for thing, (n, price) in zip(things, amounts, strict=True)]
    text = f"{name} from {city} ordered {listed(parts)} on {day} {MONTHS[month - 1]} 2031."
    if level == 4:
        question = f'Return only a JSON array with one object per kind of thing in this order, with "thing" (singular), "amount" and "price" (of one, in euros; numbers), in the order of the text: {text}'
        return _item(question, 160, lines, _near(lines))
    rest = r.choice(things[1:-1])
    value = {"customer": name, "lines": [line for line in sorted(lines, key=lambda line: str(line["thing"])) if line["thing"] != rest],
             "total": sum(n * price for thing, (n, price) in zip(things, amounts, strict=True) if thing != rest)}  # fmt: skip
    question = (f'Return only a JSON object with "customer" (the name), "lines" (an array of objects with "thing" (singular), "amount" and "price" (of one), in '
                f'alphabetical order of thing) and "total" (the sum to pay in euros), after all changes, for: {text} Later {name} cancelled the {rest}{"s" if amounts[things.index(rest)][0] > 1 else ""}.')  # fmt: skip
    return _item(question, 256, value, _near(value))


TOOLS: dict[str, tuple[str, dict[str, str]]] = {
    "get_weather": ("the weather of a day", {"city": "text", "day": "text"}),
    "set_alarm": ("set an alarm", {"time": "text, hh:mm", "label": "text"}),
    "book_table": (
        "book a table",
        {"restaurant_city": "text", "people": "number", "date": "text, YYYY-MM-DD", "outside": "true or false"},
    ),
    "send_money": ("send money", {"to": "text", "amount": "number", "currency": 'one of "EUR", "USD", "GBP"'}),
    "find_train": ("look for a train", {"from": "text", "to": "text", "leave_after": "text, hh:mm", "seats": "number"}),
    "add_to_list": ("put things on a list", {"list": "text", "things": "array of texts"}),
}


def _tools(names: list[str]) -> str:
    return "\n".join(
        f"- {name}({', '.join(f'{key}: {kind}' for key, kind in TOOLS[name][1].items())}): {TOOLS[name][0]}"
        for name in names
    )


def tool_call(r: random.Random, level: int) -> Item:
    name, city, other = r.choice(NAMES), *r.sample(CITIES, 2)
    day, people, amount = r.choice(DAYS), r.randrange(2, 9), r.randrange(11, 90)
    date, month, time = (
        r.randrange(1, 28),
        r.randrange(1, 13),
        f"{r.randrange(13, 22)}:{r.choice(('05', '15', '30', '45'))}",
    )
    shown = f"{int(time[:2]) - 12}:{time[3:]} pm"
    calls: list[tuple[str, dict[str, Any], str]] = [
        ("get_weather", {"city": city, "day": day}, f"How will the weather be in {city} on {day}?"),
        ("set_alarm", {"time": time, "label": "tea"}, f"Set an alarm for {time if level < 4 else shown} with the label tea."),
        ("send_money", {"to": name, "amount": amount, "currency": "EUR" if level < 4 else "GBP"}, f"Send {amount} {'euros' if level < 4 else 'British pounds'} to {name}."),
        ("find_train", {"from": city, "to": other, "leave_after": time, "seats": people}, f"I need {people} seats in a train to {other} that leaves {city} after {shown}."),
        ("book_table", {"restaurant_city": city, "people": people, "date": f"2031-{month:02d}-{date:02d}", "outside": True},
         f"Book a table outside in {city} on {date} {MONTHS[month - 1]} 2031, for me and {people - 1} friends."),
        ("add_to_list", {"list": "shopping", "things": (things := r.sample(THINGS, 3))}, f"Put a {listed(things, 'and a')} on my shopping list."),
    ]  # fmt: skip
    if level == 1:
        tool, arguments, request = r.choice([calls[0], calls[1]])
        keys = listed([f'"{key}"' for key in arguments])
        question = f"A program needs a JSON object with the keys {keys} for this request. {ONLY}\n\nRequest: {request}"
        return _item(question, 48, arguments, _near(arguments))
    example = (
        '\n\nRequest: Show me the news about sport.\n{"name": "get_news", "arguments": {"topic": "sport"}}'
        if level == 2
        else ""
    )
    form = 'Answer with one JSON object {"name": …, "arguments": {…}} only.'
    if level <= 4:
        tool, arguments, request = r.choice(calls[:3] if level == 2 else calls[2:])
        known = [tool] if level == 2 else [*r.sample([t for t in TOOLS if t != tool], 2), tool]
        if level > 2:
            r.shuffle(known)
        question = f"You can call {'this function' if level == 2 else 'one of these functions'}:\n{_tools(known)}\n{form} Use each argument.{example}\n\nRequest: {request}"
        value: Any = {"name": tool, "arguments": arguments}
        return _item(question, 96, value, _near(value))
    picked = r.sample(calls[2:], 2)
    question = (f'You can call these functions:\n{_tools(list(TOOLS))}\nAnswer with a JSON array of objects {{"name": …, "arguments": {{…}}}} only, one per call, in the '
                f"order in which they have to be made. Use each argument.\n\nRequest: {picked[0][2]} But first: {picked[1][2]}")  # fmt: skip
    value = [{"name": tool, "arguments": arguments} for tool, arguments, _ in reversed(picked)]
    return _item(question, 192, value, value[::-1])
