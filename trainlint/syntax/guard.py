"""What is refused before the parser sees it.

libcst's parser is native code: deep nesting overflows the C stack and kills the process, which no
`except` catches; chains and nesting cost it time that grows with the square of their length; and
once started it cannot be stopped. A scan over brackets, strings and line ends bounds both first.

Measured with libcst 1.9.0 on an 8 MB stack (`benchmarks/README.md`): 1,500 nested brackets die,
and so do chains of 6,000 attributes, lambdas or conditional expressions and of 10,000 `and` or
`not`. Time in microseconds is about 12 a token, 15 d^2 for brackets nested d deep, and 0.15 n^2
for a chain of n tokens, such as `a + b + c` or `x[0][1]`. libcst itself
bounds indentation, string concatenation and the nested `for`s of a comprehension.
"""

from __future__ import annotations

import re

from trainlint.core import late
from trainlint.syntax.source import InvalidSource, UnreadableSource, position

MAX_BRACKETS = 200
"""As CPython's tokenizer, so that no program that runs is refused."""

MAX_CHAIN = 3000
"""Tokens of one expression between two commas, with those of the brackets around it."""

MAX_BRANCHES = 1500
"""`elif`s of one chain: each is nested in the one before."""

MAX_WORK = 8_000_000
"""Estimated microseconds of a parse."""

_STRING = (
    r'"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*"""'
    r"|'''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*'''"
    r'|"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
    r"|'[^'\\\n]*(?:\\.[^'\\\n]*)*'"
)
_EVENT = late.pattern(rf"{_STRING}|#[^\n\r]*|[()\[\]{{}}\n\r]|\\\r?\n", re.DOTALL)
_TOKEN = late.pattern(rf"{_STRING}|#[^\n\r]*|\w+|[^\s\w\\]", re.DOTALL)
_ELIF = late.pattern(r"^([ \t]*)elif\b", re.MULTILINE)

_SHORT_STATEMENT = 1500
"""A statement of fewer characters holds no chain that matters."""


def guard(text: str) -> None:
    """Raise if a text could kill the parser or hold it for too long."""
    work = _brackets(text)
    if len(text) * 12 > MAX_WORK:
        work += 12 * sum(1 for _ in _TOKEN.finditer(text))
    if work > MAX_WORK:
        problem = f"would take too long to parse: {work // 12:,} tokens' worth of work"
        raise UnreadableSource(f"{problem}, the limit is {MAX_WORK // 12:,}")
    if text.count("elif") > MAX_BRANCHES:
        _branches(text)


def _brackets(text: str) -> int:
    """Bound the nesting of brackets and the length of chains; the work beyond a token's own."""
    depth = 0
    rising = False
    work = 0
    start = 0
    for event in _EVENT.finditer(text):
        first = event.group()[0]
        if first in "([{":
            depth += 1
            rising = True
            if depth > MAX_BRACKETS:
                raise _too_deep(text, event.start())
        elif first in ")]}":
            if rising:
                work += 15 * depth * depth if depth > 10 else 0
                rising = False
            if depth:
                depth -= 1
        elif first in "\n\r":
            if not depth:
                if event.start() - start > _SHORT_STATEMENT:
                    work += _chains(text, start, event.start())
                start = event.end()
        elif first in "\"'" and "{" in event.group():
            work += _replacement_fields(text, event.start(), event.group(), depth)
    if len(text) - start > _SHORT_STATEMENT:
        work += _chains(text, start, len(text))
    return work


def _too_deep(text: str, offset: int) -> InvalidSource:
    problem = f"brackets are nested too deeply: the limit is {MAX_BRACKETS}"
    return InvalidSource(problem, *position(text, offset))


def _replacement_fields(text: str, offset: int, string: str, depth: int) -> int:
    """Bound an f-string: its braces hold expressions, which nest.

    How they nest is not read: as many opening brackets as the parser survives are let through.
    """
    if not any(letter in "fFtT" for letter in text[max(offset - 2, 0) : offset]):
        return 0
    opened = sum(string.count(bracket) for bracket in "([{")
    if opened <= MAX_BRACKETS - depth:
        return 0
    nested, deepest = 0, 0
    for letter in string:
        if letter in "([{":
            nested += 1
            deepest = max(deepest, nested)
        elif letter in ")]}" and nested:
            nested -= 1
    quotes = sum(string[1:-1].count(quote) for quote in "\"'")
    if depth + deepest > MAX_BRACKETS or (quotes and opened > 5 * MAX_BRACKETS):
        raise _too_deep(text, offset)
    return 15 * deepest * deepest


def _chains(text: str, start: int, end: int) -> int:
    """Bound the chains of one long statement; the work that they cost.

    A chain's tokens are counted per bracket level; those of the levels around it count with it,
    because they are nested around it.
    """
    work = 0
    levels = [0]
    total = 0
    for match in _TOKEN.finditer(text, start, end):
        token = match.group()
        if token[0] == "#":
            continue
        if token in (",", ";"):
            work += _square(levels[-1])
            total -= levels[-1]
            levels[-1] = 0
            continue
        levels[-1] += 1
        total += 1
        if token in "([{":
            levels.append(0)
        elif token in ")]}" and len(levels) > 1:
            work += _square(levels[-1])
            total -= levels.pop()
        if total > MAX_CHAIN:
            problem = f"an expression is too long: the limit is {MAX_CHAIN:,} tokens in a row"
            raise InvalidSource(problem, *position(text, match.start()))
    return work + sum(map(_square, levels))


def _square(tokens: int) -> int:
    return tokens * tokens * 3 // 20 if tokens > 100 else 0


def _branches(text: str) -> None:
    """Bound the `elif`s at one indentation, which may be those of one chain."""
    counts: dict[str, int] = {}
    for match in _ELIF.finditer(text):
        indent = match.group(1)
        counts[indent] = counts.get(indent, 0) + 1
        if counts[indent] > MAX_BRANCHES:
            problem = f"too many `elif` in a row: the limit is {MAX_BRANCHES:,}"
            raise InvalidSource(problem, *position(text, match.start()))
