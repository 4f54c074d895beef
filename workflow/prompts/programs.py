"""Small programs: what to write, a solution, a change that breaks it, and arguments; the tests come from the solution."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from prompts.item import Item


class Program(NamedTuple):
    """head: name and parameters; body: its lines; broken: what to replace in the body, by what; calls: arguments."""

    head: str
    does: str
    body: str
    broken: tuple[str, str]
    calls: tuple[str, ...]


PROGRAMS: dict[int, tuple[Program, ...]] = {
    1: (
        Program("add(a, b)", "returns the sum of a and b", "return a + b", ("+", "-"), ("1, 2", "-3, 10", "0, 0")),
        Program("double(x)", "returns two times x", "return 2 * x", ("2 *", "2 +"), ("3", "0", "-4")),
        Program("square(x)", "returns the square of x", "return x * x", ("x * x", "x * 2"), ("3", "-4", "0")),
        Program("is_even(n)", "returns True if n is even and False otherwise", "return n % 2 == 0", ("== 0", "== 1"), ("2", "7", "0", "-3")),
        Program("maximum(a, b)", "returns the larger of two numbers", "return a if a > b else b", (">", "<"), ("1, 2", "5, -1", "4, 4")),
        Program("reverse(text)", "returns the string text reversed", "return text[::-1]", ("[::-1]", "[::1]"), ("'abc'", "''", "'level5'")),
        Program("length(items)", "returns the number of elements of the list items", "return len(items)", ("len(items)", "len(items) - 1"), ("[1, 2, 3]", "[]", "['a']")),
        Program("first(items)", "returns the first element of the list items", "return items[0]", ("[0]", "[1]"), ("[4, 5]", "['a', 'b', 'c']", "[7, 8]")),
        Program("greet(name)", "returns the string 'Hello, ' followed by name and '!'", "return 'Hello, ' + name + '!'", ("+ '!'", ""), ("'Ann'", "'Bo'")),
        Program("to_upper(text)", "returns text in upper case", "return text.upper()", ("upper", "title"), ("'abc'", "'Ab c'", "''")),
        Program("average(a, b)", "returns the average of the numbers a and b", "return (a + b) / 2", ("(a + b) / 2", "a + b / 2"), ("2, 4", "1, 2", "0, 0")),
        Program("is_empty(text)", "returns True if the string text has no characters and False otherwise", "return len(text) == 0", ("== 0", "== 1"), ("''", "'a'", "' '")),
    ),
    2: (
        Program("total(numbers)", "returns the sum of a list of numbers", "result = 0\nfor n in numbers:\n    result += n\nreturn result", ("+=", "="), ("[1, 2, 3]", "[]", "[-1, 5]")),
        Program("count_vowels(text)", "returns how many of the letters a, e, i, o, u, in upper or lower case, are in text",
                "return sum(c in 'aeiou' for c in text.lower())", (".lower()", ""), ("'Education'", "'xyz'", "'AEIOU'")),
        Program("factorial(n)", "returns n! for n >= 0", "result = 1\nfor k in range(2, n + 1):\n    result *= k\nreturn result", ("n + 1", "n"), ("0", "1", "5", "10")),
        Program("is_palindrome(text)", "returns True if text reads the same backwards and False otherwise", "return text == text[::-1]", ("==", "!="), ("'abba'", "'abc'", "''")),
        Program("largest(numbers)", "returns the largest number of a list that is not empty", "return max(numbers)", ("max(numbers)", "numbers[-1]"), ("[3, 9, 2]", "[-5, -2]", "[7]")),
        Program("squares(n)", "returns the list of the squares of 1, 2, ..., n", "return [k * k for k in range(1, n + 1)]", ("n + 1", "n"), ("3", "0", "1", "5")),
        Program("count_word(text, word)", "returns how often word is among the words of text, which are separated by spaces", "return text.split().count(word)", (".split()", ""), ("'a b a ab', 'a'", "'', 'x'", "'one two', 'two'")),
        Program("celsius(f)", "converts degrees Fahrenheit to degrees Celsius", "return (f - 32) * 5 / 9", ("5 / 9", "9 / 5"), ("32", "212", "14")),
        Program("evens(numbers)", "returns the list of the even numbers of a list, in the same order", "return [n for n in numbers if n % 2 == 0]", ("== 0", "!= 0"), ("[1, 2, 3, 4]", "[]", "[-2, 5, 0]")),
        Program("last_two(items)", "returns the last two elements of a list as a list, or the whole list if it is shorter", "return items[-2:]", ("-2:", ":2"), ("[1, 2, 3]", "[5]", "[]")),
        Program("sign(x)", "returns 1 for positive, -1 for negative numbers and 0 for zero", "return (x > 0) - (x < 0)", ("- (x < 0)", ""), ("5", "-2", "0")),
        Program("initials(name)", "returns the first letters of the words of name in upper case, such as 'AL' for 'ada lovelace'",
                "return ''.join(w[0].upper() for w in name.split())", (".upper()", ""), ("'ada lovelace'", "'Bo'", "'a b c'")),
    ),
    3: (
        Program("is_prime(n)", "returns True if n is a prime number and False otherwise", "if n < 2:\n    return False\nreturn all(n % k for k in range(2, int(n ** 0.5) + 1))",
                ("n < 2", "n < 1"), ("1", "2", "9", "97", "0", "91")),
        Program("fibonacci(n)", "returns the list of the first n Fibonacci numbers, which begin with 0 and 1", "row = [0, 1]\nwhile len(row) < n:\n    row.append(row[-1] + row[-2])\nreturn row[:n]",
                ("row[:n]", "row"), ("0", "1", "2", "8")),
        Program("unique(items)", "returns the elements of a list without repetitions, in the order in which they first occur", "return list(dict.fromkeys(items))",
                ("list(dict.fromkeys(items))", "sorted(set(items))"), ("[3, 1, 3, 2, 1]", "[]", "['b', 'a', 'b']")),
        Program("word_lengths(text)", "returns a dictionary from each word of text (separated by spaces) to its length", "return {w: len(w) for w in text.split()}", ("len(w)", "len(text)"), ("'a bcd'", "''", "'to be or not'")),
        Program("second_largest(numbers)", "returns the second largest of the different numbers of a list, or None if there is none",
                "different = sorted(set(numbers))\nreturn different[-2] if len(different) > 1 else None", ("sorted(set(numbers))", "sorted(numbers)"), ("[1, 5, 5, 3]", "[2, 2]", "[]", "[4, 9]")),
        Program("gcd(a, b)", "returns the greatest common divisor of two positive integers", "while b:\n    a, b = b, a % b\nreturn a", ("a, b = b, a % b", "a, b = b, a // b"), ("12, 18", "7, 5", "100, 10")),
        Program("is_leap(year)", "returns True for leap years of the Gregorian calendar and False otherwise", "return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)",
                (" or year % 400 == 0", ""), ("2000", "1900", "2024", "2023")),
        Program("flatten(lists)", "returns one list with all elements of a list of lists, in order", "return [x for part in lists for x in part]", ("for part in lists for x in part", "for x in lists"), ("[[1], [2, 3], []]", "[]", "[['a', 'b']]")),
        Program("caesar(text, n)", "shifts every lower-case letter a to z of text by n places in the alphabet, around from z to a, and leaves other characters as they are",
                "return ''.join(chr((ord(c) - 97 + n) % 26 + 97) if 'a' <= c <= 'z' else c for c in text)", ("% 26", "% 25"), ("'abc', 1", "'xyz!', 3", "'Hi a', 26")),
        Program("common(a, b)", "returns the sorted list of the different elements that are in both lists a and b", "return sorted(set(a) & set(b))", ("&", "|"), ("[1, 2, 2, 3], [2, 3, 4]", "[], [1]", "[5, 1], [1, 5]")),
        Program("digits_sum(n)", "returns the sum of the decimal digits of the integer n, which may be negative", "return sum(int(d) for d in str(abs(n)))", ("str(abs(n))", "str(n)[:3]"), ("123", "0", "-45", "9999")),
        Program("chunks(items, n)", "splits a list into lists of n elements; the last may be shorter", "return [items[k:k + n] for k in range(0, len(items), n)]", ("len(items), n", "len(items) - n + 1, n"), ("[1, 2, 3, 4, 5], 2", "[], 3", "[1, 2], 5")),
    ),
    4: (
        Program("balanced(text)", "returns True if the brackets (), [] and {} in text are balanced and nested properly, and False otherwise",
                "open_, pairs = [], {')': '(', ']': '[', '}': '{'}\nfor c in text:\n    if c in '([{':\n        open_.append(c)\n    elif c in pairs:\n        if not open_ or open_.pop() != pairs[c]:\n            return False\nreturn not open_",
                ("return not open_", "return True"), ("'(a[b]{c})'", "'(]'", "'(('", "''", "')'")),
        Program("roman(n)", "returns the Roman numeral of an integer from 1 to 3999",
                "table = [(1000, 'M'), (900, 'CM'), (500, 'D'), (400, 'CD'), (100, 'C'), (90, 'XC'), (50, 'L'), (40, 'XL'), (10, 'X'), (9, 'IX'), (5, 'V'), (4, 'IV'), (1, 'I')]\nout = ''\nfor value, sign in table:\n    while n >= value:\n        out, n = out + sign, n - value\nreturn out",
                ("(4, 'IV'), ", ""), ("4", "1994", "3999", "58")),
        Program("merge(a, b)", "merges two sorted lists into one sorted list", "return sorted(a + b)", ("sorted(a + b)", "a + b"), ("[1, 4], [2, 3]", "[], [1]", "[1, 1], [1]")),
        Program("run_lengths(text)", "returns the run-length code of text as a list of [character, count] lists", "out = []\nfor c in text:\n    if out and out[-1][0] == c:\n        out[-1][1] += 1\n    else:\n        out.append([c, 1])\nreturn out",
                ("+= 1", "+= 2"), ("'aaab'", "''", "'abca'")),
        Program("binary_search(items, x)", "returns the index of x in a sorted list of different numbers, or -1 if it is not in it", "return items.index(x) if x in items else -1", ("else -1", "else None"), ("[1, 3, 5, 7], 5", "[], 1", "[2, 4], 3")),
        Program("transpose(rows)", "returns the transpose of a matrix given as a list of rows of equal length", "return [list(column) for column in zip(*rows)]", ("zip(*rows)", "rows"), ("[[1, 2, 3], [4, 5, 6]]", "[[7]]", "[]")),
        Program("anagrams(words)", "groups the words that are anagrams of each other: a list of sorted lists, which is sorted too",
                "groups = {}\nfor w in words:\n    groups.setdefault(''.join(sorted(w)), []).append(w)\nreturn sorted(sorted(g) for g in groups.values())", ("''.join(sorted(w))", "len(w)"), ("['tea', 'eat', 'tan', 'nat', 'bat']", "[]", "['ab', 'ba', 'abc']")),
        Program("prime_factors(n)", "returns the list of the prime factors of n >= 2 in ascending order, each as often as it divides n", "out, k = [], 2\nwhile n > 1:\n    while n % k == 0:\n        out.append(k)\n        n //= k\n    k += 1\nreturn out",
                ("    while n % k == 0", "    if n % k == 0"), ("12", "97", "360", "2")),
        Program("to_base(n, base)", "returns the digits of the integer n >= 0 in a base from 2 to 16 as a string with the letters a to f for 10 to 15", "if n == 0:\n    return '0'\nout = ''\nwhile n:\n    out, n = '0123456789abcdef'[n % base] + out, n // base\nreturn out",
                ("if n == 0:\n    return '0'\n", ""), ("10, 2", "255, 16", "0, 7", "100, 3")),
        Program("rotate(items, n)", "rotates a list by n places to the right; n may be larger than the list or negative", "if not items:\n    return []\nn %= len(items)\nreturn items[-n:] + items[:-n] if n else list(items)", ("n %= len(items)\n", ""), ("[1, 2, 3, 4], 1", "[1, 2, 3], -1", "[1, 2], 5", "[], 3")),
        Program("most_common(text)", "returns the most frequent word of text (words are separated by spaces, case does not count, the result is in lower case); of several, the first in the alphabet",
                "found = text.lower().split()\nreturn min(set(found), key=lambda w: (-found.count(w), w))", ("(-found.count(w), w)", "(found.count(w), w)"), ("'the cat The dog'", "'b a b a c'", "'One'")),
        Program("longest_run(numbers)", "returns the length of the longest run of equal neighbours in a list", "best = run = 0\nfor k, n in enumerate(numbers):\n    run = run + 1 if k and n == numbers[k - 1] else 1\n    best = max(best, run)\nreturn best",
                ("best = max(best, run)", "best = run"), ("[1, 1, 2, 2, 2, 3]", "[]", "[5]")),
    ),
    5: (
        Program("evaluate(text)", "computes an expression of non-negative integers, +, -, *, and parentheses, such as '2*(3+4)-1', with the usual precedence, without using eval or exec",
                "import re\ntokens = re.findall(r'\\d+|[-+*()]', text)\ndef atom():\n    t = tokens.pop(0)\n    if t == '(':\n        v = add()\n        tokens.pop(0)\n        return v\n    return int(t)\ndef mul():\n    v = atom()\n    while tokens and tokens[0] == '*':\n        tokens.pop(0)\n        v *= atom()\n    return v\ndef add():\n    v = mul()\n    while tokens and tokens[0] in '+-':\n        v = v + mul() if tokens.pop(0) == '+' else v - mul()\n    return v\nreturn add()",
                ("while tokens and tokens[0] in '+-'", "if tokens and tokens[0] in '+-'"), ("'2*(3+4)-1'", "'10-2-3'", "'7'", "'(1+2)*(3+4)*2'")),
        Program("edit_distance(a, b)", "returns the Levenshtein distance of two strings", "row = list(range(len(b) + 1))\nfor i, x in enumerate(a, 1):\n    last, row[0] = row[0], i\n    for j, y in enumerate(b, 1):\n        last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))\nreturn row[-1]",
                ("(x != y)", "1"), ("'kitten', 'sitting'", "'', 'abc'", "'same', 'same'")),
        Program("knapsack(items, limit)", "returns the largest total value of items, given as [weight, value] lists, whose total weight is at most limit; each is taken at most once",
                "best = [0] * (limit + 1)\nfor w, v in items:\n    for k in range(limit, w - 1, -1):\n        best[k] = max(best[k], best[k - w] + v)\nreturn best[limit]", ("range(limit, w - 1, -1)", "range(w, limit + 1)"), ("[[3, 4], [4, 5], [2, 3]], 6", "[[5, 9]], 4", "[[1, 3], [2, 4]], 5")),
        Program("next_permutation(numbers)", "returns the next permutation of a list in lexicographic order, or the sorted list after the last one",
                "a = list(numbers)\ni = len(a) - 2\nwhile i >= 0 and a[i] >= a[i + 1]:\n    i -= 1\nif i >= 0:\n    j = len(a) - 1\n    while a[j] <= a[i]:\n        j -= 1\n    a[i], a[j] = a[j], a[i]\nreturn a[:i + 1] + a[i + 1:][::-1]",
                ("a[i + 1:][::-1]", "a[i + 1:]"), ("[1, 2, 3]", "[3, 2, 1]", "[1, 3, 2]", "[1, 1, 5]")),
        Program("islands(grid)", "counts the islands in a grid of 0 and 1 (a list of lists): groups of ones that are connected horizontally or vertically",
                "land = {(i, j) for i, row in enumerate(grid) for j, v in enumerate(row) if v}\ncount = 0\nwhile land:\n    count += 1\n    todo = [land.pop()]\n    while todo:\n        i, j = todo.pop()\n        for p in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):\n            if p in land:\n                land.remove(p)\n                todo.append(p)\nreturn count",
                (", (i, j + 1), (i, j - 1)", ""), ("[[1, 1, 0], [0, 0, 1], [1, 0, 1]]", "[]", "[[1, 0, 1], [1, 1, 1]]")),
        Program("match(pattern, text)", "returns True if the whole text matches the pattern, in which ? stands for any one character and * for any sequence of characters, also none; without importing anything",
                "if not pattern:\n    return not text\nif pattern[0] == '*':\n    return match(pattern[1:], text) or bool(text) and match(pattern, text[1:])\nreturn bool(text) and pattern[0] in ('?', text[0]) and match(pattern[1:], text[1:])",
                ("return not text", "return True"), ("'a*c', 'abbc'", "'?', ''", "'*', ''", "'a?', 'abc'", "'*b*', 'abc'")),
        Program("shortest_path(edges, start, goal)", "returns the length of the shortest path from start to goal in an undirected graph, given as a list of [node, node, length] lists, or -1 if there is none",
                "best, todo = {start: 0}, [start]\nwhile todo:\n    n = todo.pop()\n    for a, b, w in edges:\n        for x, y in ((a, b), (b, a)):\n            if x == n and best[n] + w < best.get(y, float('inf')):\n                best[y] = best[n] + w\n                todo.append(y)\nreturn best.get(goal, -1)",
                ("((a, b), (b, a))", "((a, b),)"), ("[['a', 'b', 4], ['b', 'c', 1], ['a', 'c', 7]], 'a', 'c'", "[['a', 'b', 1]], 'a', 'z'", "[['b', 'a', 2]], 'a', 'b'")),
        Program("spell(n)", "spells an integer from 0 to 999 in English, such as 'three hundred forty-two' (without 'and')",
                "ones = 'zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen'.split()\ntens = 'twenty thirty forty fifty sixty seventy eighty ninety'.split()\nif n < 20:\n    return ones[n]\nif n < 100:\n    return tens[n // 10 - 2] + ('-' + ones[n % 10] if n % 10 else '')\nreturn ones[n // 100] + ' hundred' + (' ' + spell(n % 100) if n % 100 else '')",
                ("'-' + ones", "' ' + ones"), ("0", "19", "40", "342", "900", "715")),
        Program("weekday(year, month, day)", "returns the day of the week of a date of the Gregorian calendar as a number, 0 for Monday to 6 for Sunday, without importing anything",
                "if month < 3:\n    year, month = year - 1, month + 12\nreturn (day + 13 * (month + 1) // 5 + year + year // 4 - year // 100 + year // 400 + 5) % 7", ("+ year // 400 ", ""), ("2000, 1, 1", "2024, 2, 29", "1999, 12, 31", "2026, 11, 28")),
        Program("overlap(intervals)", "returns the largest number of the intervals, given as [start, end] lists, that hold one common point; ends belong to their interval",
                "return max((sum(a <= x <= b for a, b in intervals) for x, _ in intervals), default=0)", ("a <= x <= b", "a <= x < b"), ("[[1, 3], [2, 5], [3, 4]]", "[]", "[[1, 2], [2, 3]]", "[[1, 1]]")),
        Program("justify(text, width)", "breaks text into lines of at most width characters, with as many words in each as fit, and returns the list of lines; no word is longer than width",
                "lines = []\nfor w in text.split():\n    if lines and len(lines[-1]) + 1 + len(w) <= width:\n        lines[-1] += ' ' + w\n    else:\n        lines.append(w)\nreturn lines", ("+ 1 + len(w)", "+ len(w)"), ("'the quick brown fox', 9", "'', 5", "'aa bb cc', 5", "'ab cd', 4")),
        Program("partitions(n)", "returns in how many ways the integer n >= 0 is a sum of positive integers when the order does not count", "ways = [1] + [0] * n\nfor part in range(1, n + 1):\n    for k in range(part, n + 1):\n        ways[k] += ways[k - part]\nreturn ways[n]",
                ("range(1, n + 1):\n    for k", "range(1, n):\n    for k"), ("0", "1", "5", "10", "30")),
    ),
}  # fmt: skip
TOKENS = (64, 96, 128, 192, 256)


def programs() -> dict[int, list[Item]]:
    return {level: [_program(made, level) for made in many] for level, many in PROGRAMS.items()}


def _program(made: Program, level: int) -> Item:
    name = made.head.partition("(")[0]
    source = _source(made.head, made.body)
    tests = [f"f({call}) == {_value(source, name, call)!r}" for call in made.calls]
    before, after = made.broken
    if before not in made.body:
        raise ValueError(f"{made.head}: {before!r} is not in its body")
    return Item(
        f"Write a Python function {made.head} that {made.does}. Give only the code.", TOKENS[level - 1],
        [{"type": "python", "tests": tests, "function": name}],
        f"```python\n{source}\n```", f"```python\n{_source(made.head, made.body.replace(before, after, 1))}\n```",
    )  # fmt: skip


def _source(head: str, body: str) -> str:
    return f"def {head}:\n" + "\n".join(f"    {line}" for line in body.split("\n"))


def _value(source: str, name: str, call: str) -> Any:
    space: dict[str, Any] = {"math": math}
    exec(source, space)  # our own text, never a model's
    return eval(f"{name}({call})", space)
