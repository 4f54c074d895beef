"""Arithmetic: sums, word problems, fractions, percentages, units, algebra."""

from __future__ import annotations

import random
from fractions import Fraction

from prompts.item import CITIES, NAMES, THINGS, Item, number

ONLY = "Answer with the number only."
END = "End your answer with the number."


def plain(r: random.Random, level: int) -> Item:
    def between(digits: int) -> int:
        return r.randrange(10 ** (digits - 1) + 1, 10**digits)

    if level == 1:
        a, b = r.randrange(1, 6), r.randrange(1, 5)
        return _sum(f"What is {a} + {b}?", a + b, b + a + 1, 24)
    if level == 2:
        a, b = between(2), between(2)
        return _sum(f"What is {a} plus {b}? {ONLY}", a + b, a + b + 10, 24)
    if level == 3:
        b, a = sorted((between(3), between(3)))
        return _sum(f"Calculate ${a} - {b}$. {ONLY}", a - b, a - b + 10, 24)
    if level == 4:
        a, b = between(3), between(2)
        return _sum(f"Compute {a} × {b}. {END}", a * b, a * b + 100, 192)
    a, b = between(5), between(4)
    return _sum(f"Calculate $${a} \\times {b}$$ {END}", a * b, a * b - 1000, 256)


def _sum(question: str, value: int, near: int, tokens: int) -> Item:
    return Item(question, tokens, [number(value)], f"The result is **{value:,}**.", f"The result is {near}.")


def word(r: random.Random, level: int) -> Item:
    """A stock of things that changes; one, two, four, six or eight steps."""
    name, thing = r.choice(NAMES), r.choice(("apples", "coins", "stamps", "books", "marbles"))
    have = r.randrange(3, 9) if level == 1 else r.randrange(12, 40) * (1 if level < 4 else 2)
    told = [f"{name} has {have} {thing}."]
    for step in range((1, 2, 4, 6, 8)[level - 1]):
        kind = r.choice(("buys", "gives") if level < 3 else ("buys", "gives", "doubles", "bags", "friend"))
        if kind == "gives" and have > 5:
            n = r.randrange(2, min(have - 1, 20))
            told.append(f"{name} gives away {n}.")
            have -= n
        elif kind == "doubles" and have < 150:
            told.append(f"Then {name} doubles the number of {thing}.")
            have *= 2
        elif kind == "bags":
            bags, each = r.randrange(2, 6), r.randrange(3, 9)
            told.append(f"{name} gets {bags} bags with {each} {thing} each.")
            have += bags * each
        elif kind == "friend" and have % 2 == 0 and have > 8:
            told.append(f"{name} gives half of the {thing} to a friend.")
            have //= 2
        else:
            n = r.randrange(2, 6) if level == 1 else r.randrange(6, 30)
            told.append(f"{name} {'buys' if step % 2 else 'gets'} {n} more.")
            have += n
    question = f"{' '.join(told)} How many {thing} does {name} have now? {END}"
    tokens = (48, 96, 160, 224, 256)[level - 1]
    return Item(question, tokens, [number(have)], f"We go step by step.\n\n**{name} has {have} {thing}.**",
                f"{name} has {have + 1} {thing} now.")  # fmt: skip


def fraction(r: random.Random, level: int) -> Item:
    def part(most: int) -> Fraction:
        below = r.randrange(2, most)
        return Fraction(r.randrange(1, below), below)

    if level <= 2:
        half = Fraction(1, 2)
        a, b = (half, half) if level == 1 else (half, Fraction(1, r.choice((4, 6, 8))))
        question, value = f"What is {a} + {b}? Answer with the number only.", a + b
    elif level == 3:
        a, b = part(7), part(9)
        question, value = f"What is {a} + {b}? Give the result as a fraction. End your answer with it.", a + b
    elif level == 4:
        a, b = part(12), part(12)
        question = (
            f"Compute $\\frac{{{a.numerator}}}{{{a.denominator}}} \\cdot \\frac{{{b.numerator}}}{{{b.denominator}}}$"
        )
        question, value = f"{question} and give the result as a fraction. End your answer with it.", a * b
    else:
        a, b, c = part(13), part(13), part(8)
        tex = [f"\\frac{{{x.numerator}}}{{{x.denominator}}}" for x in (a, b, c)]
        question = f"Compute $\\left({tex[0]} - {tex[1]}\\right) : {tex[2]}$ as a fraction. End your answer with it."
        value = (a - b) / c
    wanted = str(value)
    tex_value = f"{'-' if value < 0 else ''}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"
    near = Fraction(value.numerator + 1, value.denominator)
    check = {"type": "math_value", "value": wanted, "form": "number"}
    return Item(
        question, (24, 32, 128, 128, 224)[level - 1], [check], f"The result is ${tex_value}$.", f"It is {near}."
    )


def percent(r: random.Random, level: int) -> Item:
    if level == 1:
        base = r.randrange(2, 10) * 2
        return _percent(f"What is 50% of {base}?", base // 2, 48)
    if level == 2:
        base = r.randrange(2, 10) * 100
        return _percent(f"What is 10% of {base}? {ONLY}", base // 10, 32)
    if level == 3:
        base, share = r.randrange(3, 20) * 20, r.choice((5, 15, 35, 45, 65))
        return _percent(f"How much is {share} percent of {base}? {END}", base * share // 100, 128)
    price = r.randrange(2, 12) * 200
    thing = r.choice(THINGS)
    up, down = r.choice(((20, 25), (10, 50), (25, 40), (50, 20), (30, 10)))
    after = price * (100 + up) * (100 - down) // 10000
    if level == 4:
        question = f"A {thing} costs {price} euros. Its price rises by {up}%, and then falls by {down}%. What does it cost now, in euros? {END}"
        return _percent(question, after, 192)
    question = (f"The price of a {thing} first rose by {up}% and then fell by {down}%. Now it costs {after} euros. "
                f"What did it cost at first, in euros? {END}")  # fmt: skip
    return _percent(question, price, 256)


def _percent(question: str, value: int, tokens: int) -> Item:
    return Item(question, tokens, [number(value)], f"It is {value}.00", f"It is {value * 10}.")


def units(r: random.Random, level: int) -> Item:
    if level == 1:
        n = r.randrange(2, 6)
        question, value = f"How many days are in {n} weeks?", n * 7
    elif level == 2:
        n = r.randrange(2, 9)
        question, value = f"How many metres are {n} kilometres? {ONLY}", n * 1000
    elif level == 3:
        n = r.randrange(2, 9)
        question, value = f"How many minutes are {n}.5 hours? {ONLY}", n * 60 + 30
    elif level == 4:
        n = r.randrange(3, 15) * 18
        question, value = f"A train runs at {n} km/h. How many metres per second is that? {END}", n * 10 // 36
    else:
        litres, rate, minutes = r.randrange(3, 9), r.choice((40, 50, 80, 125)), r.randrange(11, 49)
        question = (f"A tank holds {litres} cubic metres. A pump fills in {rate} litres per minute for {minutes} minutes; "
                    f"the tank was empty. How many litres are missing until it is full? {END}")  # fmt: skip
        value = litres * 1000 - rate * minutes
    return Item(question, (48, 24, 24, 160, 256)[level - 1], [number(value)], f"That makes {value:,}.", f"{value + 5}")


def algebra(r: random.Random, level: int) -> Item:
    a, b, c, x = r.randrange(2, 8), r.randrange(2, 10), r.randrange(2, 10), r.randrange(2, 12)
    if level <= 3:
        left = f"x + {b}" if level == 1 else f"{a}x + {b}" if level == 2 else f"{a}(x - {b}) + {c}x"
        value = x + b if level == 1 else a * x + b if level == 2 else a * (x - b) + c * x
        question = f"Solve ${left} = {value}$ for x. End your answer with the value of x."
        check = {"type": "math_value", "value": str(x), "form": "number"}
        return Item(question, (96, 128, 192)[level - 1], [check], f"So x = {x}.", f"So x = {x + 1}.")
    if level == 4:
        inside = f"(x + {a})(x + {b})"
        value_text, near = f"x^2 + {a + b}x + {a * b}", f"x^2 + {a + b}x + {a + b}"
    else:
        inside = f"({a}x - {b})(x^2 + x - {c})"
        value_text = f"{a}x^3 + {a - b}x^2 - {a * c + b}x + {b * c}".replace("+ -", "- ")
        near = f"{a}x^3 + {a + b}x^2 - {a * c + b}x + {b * c}"
    check = {"type": "math_value", "value": value_text, "form": "expanded"}
    return Item(f"Expand and simplify ${inside}$. End your answer with the polynomial.", 192, [check],
                f"${inside} = {value_text}$", f"${inside} = {near}$")  # fmt: skip


def journey(r: random.Random, level: int) -> Item:
    """Costs and distances in more than one unit, as people meet them."""
    here, there = r.sample(CITIES, 2)
    if level == 1:
        a, b = r.randrange(1, 5), r.randrange(1, 5)
        return _sum(
            f"A pen costs {a} euros and a book costs {b} euros. How many euros do both cost together?",
            a + b,
            a + b + 2,
            48,
        )
    if level == 2:
        n, price = r.randrange(3, 7), r.randrange(2, 6)
        return _sum(
            f"One ticket costs {price} euros. How many euros do {n} tickets cost? {END}", n * price, n + price, 64
        )
    speed, hours = r.randrange(6, 12) * 10, r.randrange(2, 6)
    if level == 3:
        return _sum(f"A car drives from {here} to {there} in {hours} hours at {speed} km per hour. How many kilometres is that? {END}",
                    speed * hours, speed + hours, 96)  # fmt: skip
    people, seat, dog = r.randrange(3, 9), r.randrange(11, 29), r.randrange(3, 9)
    total = people * seat + 2 * dog
    if level == 4:
        return _sum(f"{people} people and 2 dogs go from {here} to {there}. A person pays {seat} euros, a dog {dog} euros. They pay with "
                    f"{total // 100 * 100 + 100} euros. How many euros do they get back? {END}",
                    total // 100 * 100 + 100 - total, total, 192)  # fmt: skip
    litres = r.randrange(5, 9)
    way, price = speed * hours * 5, r.choice((2, 3, 4))
    cost = way * litres * price // 100
    share = cost + 2 * people * seat
    return _sum(f"A bus drives {way} km from {here} to {there} and uses {litres} litres of fuel per 100 km; a litre costs {price} euros. "
                f"The {people} people in it also each pay {seat} euros for food on each of 2 days. What do fuel and food cost "
                f"together, in euros? {END}", share, cost + people * seat, 256)  # fmt: skip
