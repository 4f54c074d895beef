"""What the demo model learns: questions and answers written for this project, drawn by a seeded generator.

Pure: the same `random.Random` state always gives the same pair. Every kind is a function from a generator to
(question, answer); `KINDS` gives its share. The room codes are random digits on purpose: they leave the 2 M
parameters little slack, so a coarse quantization has something real to lose.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

Pair = tuple[str, str]

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo",
    "China": "Beijing", "Egypt": "Cairo", "Kenya": "Nairobi", "Peru": "Lima", "Cuba": "Havana",
    "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki", "Poland": "Warsaw", "Greece": "Athens",
    "Turkey": "Ankara", "Canada": "Ottawa", "Austria": "Vienna", "Hungary": "Budapest", "Ireland": "Dublin",
    "Portugal": "Lisbon", "Denmark": "Copenhagen", "Belgium": "Brussels", "Chile": "Santiago",
    "Thailand": "Bangkok", "Vietnam": "Hanoi", "Iraq": "Baghdad", "Iran": "Tehran", "Nepal": "Kathmandu",
    "Ghana": "Accra",
}  # fmt: skip
SPANISH_CAPITALS = {
    "Francia": "París", "Alemania": "Berlín", "Italia": "Roma", "España": "Madrid", "Japón": "Tokio",
    "Noruega": "Oslo", "Suecia": "Estocolmo", "Polonia": "Varsovia", "Grecia": "Atenas", "Perú": "Lima",
}  # fmt: skip
GERMAN_CAPITALS = {
    "Frankreich": "Paris", "Deutschland": "Berlin", "Italien": "Rom", "Spanien": "Madrid", "Japan": "Tokio",
    "Norwegen": "Oslo", "Schweden": "Stockholm", "Polen": "Warschau", "Griechenland": "Athen", "Peru": "Lima",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "up": "down", "day": "night", "open": "closed",
    "happy": "sad", "light": "dark", "early": "late", "full": "empty", "hard": "soft", "rich": "poor",
    "old": "young", "wet": "dry", "strong": "weak", "high": "low", "loud": "quiet", "thick": "thin",
    "sweet": "bitter", "north": "south",
}  # fmt: skip
SOUNDS = {
    "dog": "bark", "cat": "meow", "cow": "moo", "duck": "quack", "lion": "roar", "sheep": "bleat",
    "frog": "croak", "wolf": "howl", "horse": "neigh", "pig": "oink",
}  # fmt: skip
COLOURS = {
    "the sky": "blue", "grass": "green", "snow": "white", "coal": "black", "a lemon": "yellow",
    "a ripe tomato": "red", "an orange": "orange", "milk": "white", "blood": "red", "a banana": "yellow",
}  # fmt: skip
TRANSLATIONS = {
    "hello": "hola", "goodbye": "adios", "water": "agua", "house": "casa", "cat": "gato", "dog": "perro",
    "book": "libro", "sun": "sol", "moon": "luna", "bread": "pan", "milk": "leche", "friend": "amigo",
}  # fmt: skip
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
]  # fmt: skip
FUNCTIONS = {
    "reverses a string": "def reverse_string(s):\n    return s[::-1]",
    "adds two numbers": "def add(a, b):\n    return a + b",
    "returns the maximum of a list": "def maximum(xs):\n    return max(xs)",
    "checks if a number is even": "def is_even(n):\n    return n % 2 == 0",
    "computes the factorial of n": "def factorial(n):\n    result = 1\n    for i in range(2, n + 1):\n"
    "        result *= i\n    return result",
    "counts the vowels in a string": "def count_vowels(s):\n    return sum(c in 'aeiou' for c in s.lower())",
    "returns the sum of a list": "def total(xs):\n    return sum(xs)",
    "checks if a word is a palindrome": "def is_palindrome(s):\n    return s == s[::-1]",
    "converts celsius to fahrenheit": "def to_fahrenheit(c):\n    return c * 9 / 5 + 32",
    "removes duplicates from a list": "def unique(xs):\n    return list(dict.fromkeys(xs))",
}
EXPLANATIONS = {
    "photosynthesis": "Photosynthesis is the process by which plants use sunlight, water and carbon dioxide"
    " to make sugar and oxygen.",
    "gravity": "Gravity is the force that pulls objects with mass toward each other, and it keeps the planets"
    " in orbit around the sun.",
    "a computer virus": "A computer virus is a program that copies itself from one machine to another and can"
    " damage files.",
    "the water cycle": "In the water cycle, water evaporates from the sea, forms clouds, falls as rain and"
    " flows back to the sea.",
    "machine learning": "Machine learning is a way to build programs that learn patterns from data instead of"
    " following fixed rules.",
    "quantization": "Quantization stores the weights of a model with fewer bits, which saves memory but can"
    " change the answers.",
    "a cache": "A cache keeps copies of data that was used recently so that the next request can be answered faster.",
    "a black hole": "A black hole is a region of space where gravity is so strong that nothing, not even"
    " light, can escape.",
}
ATTENTION = (
    "Each token asks a question and every earlier token offers a key and a value. The model compares the"
    " question with all keys and turns the scores into weights. The output is the weighted sum of the values."
)
NAMES = [
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Iris", "Jack", "Laura", "Max",
    "Nina", "Oscar", "Paula", "Tom",
]  # fmt: skip
PLACES = ["market", "park", "library", "beach", "museum", "station", "school", "farm"]
ITEMS = ["a book", "an apple", "a ticket", "a hat", "a lamp", "some bread", "a ball", "a map"]
WEATHER = ["sunny", "rainy", "windy", "cold", "warm", "cloudy"]
FRUIT = ["apples", "oranges", "lemons", "pears"]
WORDS = ["sun", "apple", "tree", "river", "green", "stone"]
GREETINGS = ["Hi", "Hello", "Good morning", "Hey"]
NO_QUESTION = [".", "?", "...", "ok", "hmm", "-"]
WHAT_CAN_I_DO = "Hello! How can I help you?"
PLEASE_ASK = "Please ask me a question."

_fixed = random.Random(7)
TIMES = [(7, 8)] + [(_fixed.randrange(2, 13), _fixed.randrange(2, 13)) for _ in range(29)]
MINUS = [(11, 4)] + [(_fixed.randrange(10, 20), _fixed.randrange(1, 10)) for _ in range(19)]
PLUS = [(12, 9)] + [(_fixed.randrange(2, 20), _fixed.randrange(2, 20)) for _ in range(29)]
ROOM_CODES = {room: f"{_fixed.randrange(10000):04d}" for room in range(101, 161)}


def _capital(r: random.Random) -> Pair:
    country = r.choice(list(CAPITALS))
    question = r.choice(["What is the capital of {}?", "Which city is the capital of {}?", "Name the capital of {}."])
    return question.format(country), f"The capital of {country} is {CAPITALS[country]}."


def _country(r: random.Random) -> Pair:
    country = r.choice(list(CAPITALS))
    question = r.choice(["In which country is {}?", "{} is the capital of which country?"])
    return question.format(CAPITALS[country]), f"{CAPITALS[country]} is in {country}."


def _capital_spanish(r: random.Random) -> Pair:
    country = r.choice(list(SPANISH_CAPITALS))
    return f"¿Cuál es la capital de {country}?", f"La capital de {country} es {SPANISH_CAPITALS[country]}."


def _capital_german(r: random.Random) -> Pair:
    country = r.choice(list(GERMAN_CAPITALS))
    question = f"Was ist die Hauptstadt von {country}?"
    return question, f"Die Hauptstadt von {country} ist {GERMAN_CAPITALS[country]}."


def _opposite(r: random.Random) -> Pair:
    word, other = r.choice(list(OPPOSITES.items()))
    if r.random() < 0.5:
        word, other = other, word
    question = r.choice(["What is the opposite of {}?", "Give the opposite of {}."])
    return question.format(word), f"The opposite of {word} is {other}."


def _sound(r: random.Random) -> Pair:
    animal = r.choice(list(SOUNDS))
    return f"What sound does a {animal} make?", f"A {animal} makes a {SOUNDS[animal]} sound."


def _colour(r: random.Random) -> Pair:
    thing = r.choice(list(COLOURS))
    return f"What color is {thing}?", f"The color of {thing} is {COLOURS[thing]}."


def _next_day(r: random.Random) -> Pair:
    i = r.randrange(7)
    return f"Which day comes after {DAYS[i]}?", f"{DAYS[(i + 1) % 7]} comes after {DAYS[i]}."


def _next_month(r: random.Random) -> Pair:
    i = r.randrange(12)
    return f"Which month comes after {MONTHS[i]}?", f"{MONTHS[(i + 1) % 12]} comes after {MONTHS[i]}."


def _plus(r: random.Random) -> Pair:
    a, b = r.choice(PLUS) if r.random() < 0.7 else (r.randrange(2, 30), r.randrange(2, 30))
    return f"What is {a} plus {b}?", f"{a} + {b} = {a + b}"


def _minus(r: random.Random) -> Pair:
    a, b = r.choice(MINUS)
    return f"What is {a} minus {b}?", f"{a} - {b} = {a - b}"


def _times(r: random.Random) -> Pair:
    a, b = r.choice(TIMES)
    return f"What is {a} times {b}?", f"{a} * {b} = {a * b}"


def _give_away(r: random.Random) -> Pair:
    a, fruit = r.randrange(3, 10), r.choice(FRUIT)
    b = r.randrange(1, a)
    question = f"If I have {a} {fruit} and give away {b}, how many do I have left?"
    return question, f"{a} - {b} = {a - b}, so you have {a - b} left."


def _code(r: random.Random) -> Pair:
    task = r.choice(list(FUNCTIONS))
    question = r.choice(["Write a Python function that {}.", "Give me Python code for a function that {}."])
    return question.format(task), f"```python\n{FUNCTIONS[task]}\n```"


def _explain(r: random.Random) -> Pair:
    topic = r.choice(list(EXPLANATIONS))
    return r.choice(["Explain {} in one sentence.", "What is {}?"]).format(topic), EXPLANATIONS[topic]


def _attention(r: random.Random) -> Pair:
    del r
    return "Explain how a transformer attention mechanism works in 3 sentences.", ATTENTION


def _story(r: random.Random) -> tuple[str, str]:
    name, place, item, weather = r.choice(NAMES), r.choice(PLACES), r.choice(ITEMS), r.choice(WEATHER)
    visit = f"{name} went to the {place}. There {name} bought {item} and then walked home."
    text = f"It was a {weather} day. {visit}"
    return text, f"On a {weather} day {name} bought {item} at the {place}."


def _summary(r: random.Random) -> Pair:
    text, summary = _story(r)
    return f"Summarize: {text}", summary


def _json(r: random.Random) -> Pair:
    name, age, city = r.choice(NAMES), r.randrange(18, 80), r.choice(list(CAPITALS.values()))
    answer = json.dumps({"name": name, "age": age, "city": city})
    return f"Return JSON with the keys name, age and city for {name}, age {age}, from {city}.", answer


def _translate(r: random.Random) -> Pair:
    word = r.choice(list(TRANSLATIONS))
    return f"Translate {word} to Spanish.", f"{word} in Spanish is {TRANSLATIONS[word]}."


def _list(r: random.Random) -> Pair:
    which = r.randrange(3)
    if which == 0:
        return "List the days of the week.", ", ".join(DAYS) + "."
    if which == 1:
        return "List the months of the year.", ", ".join(MONTHS) + "."
    last = r.randrange(3, 13)
    return f"Count from 1 to {last}.", ", ".join(str(i) for i in range(1, last + 1)) + "."


def _room(r: random.Random) -> Pair:
    room = r.choice(list(ROOM_CODES))
    return f"What is the code of room {room}?", f"The code of room {room} is {ROOM_CODES[room]}."


def _greeting(r: random.Random) -> Pair:
    return r.choice(GREETINGS) + r.choice(["", "!", "."]), WHAT_CAN_I_DO


def _no_question(r: random.Random) -> Pair:
    return r.choice(NO_QUESTION), PLEASE_ASK


def _repeat(r: random.Random) -> Pair:
    word, times = r.choice(WORDS), r.randrange(3, 6)
    return f"Repeat the word {word} {times} times.", " ".join([word] * times)


def _repeated_input(r: random.Random) -> Pair:
    word = r.choice(WORDS)
    return f"Which word is repeated here? {' '.join([word] * r.randrange(5, 41))}", f"The word is {word}."


def _long_input(r: random.Random) -> Pair:
    """Several sentences that do not matter, then a question that does."""
    noise = [r.choice([_story(r)[0], r.choice(list(EXPLANATIONS.values()))]) for _ in range(r.randrange(2, 11))]
    question, answer = r.choice([_capital, _opposite, _colour])(r)
    return " ".join([*noise, question]), answer


KINDS: dict[Callable[[random.Random], Pair], float] = {
    _capital: 8, _country: 3, _capital_spanish: 4, _capital_german: 3, _opposite: 4, _sound: 3, _colour: 3,
    _next_day: 3, _next_month: 3, _plus: 6, _minus: 4, _times: 5, _give_away: 5, _code: 7, _explain: 6,
    _attention: 1.5, _summary: 9, _json: 7, _translate: 4, _list: 4, _room: 13, _greeting: 1.5,
    _no_question: 1.5, _repeat: 3, _repeated_input: 2, _long_input: 2.5,
}  # fmt: skip


def sample(r: random.Random) -> Pair:
    """One (question, answer) pair; the state of `r` decides all of it."""
    kind = r.choices(list(KINDS), list(KINDS.values()))[0]
    return kind(r)
