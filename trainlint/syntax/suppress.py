"""Suppression comments: finding them, and the pass that applies them to finished diagnostics."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from trainlint.core import late
from trainlint.core.diagnostic import Diagnostic, Position, Span
from trainlint.syntax.source import Source, split_lines


class Reach(Enum):
    """What a suppression covers."""

    STATEMENT = "statement"
    NEXT = "next"
    """Alone on its line: the statement that begins on the next line with code, `target`."""
    FILE = "file"
    NOTHING = "nothing"
    """Ours, and without brackets: it never has an effect."""


class Suppression(NamedTuple):
    """One comment that suppresses, or means to."""

    reach: Reach
    selectors: tuple[str, ...] | None
    """Codes or names as written; None for the bare `# noqa`, which means every code."""
    cell: int | None
    row: int
    column: int
    end: int
    """The column behind the comment's marker."""
    target: int
    """The row whose statement is meant."""
    ours: bool
    """Written with our own marker, so that every name in it has to be a rule of ours."""


class Outcome(NamedTuple):
    """What is left after suppression, and which comments did nothing."""

    kept: list[Diagnostic]
    unused: list[tuple[Suppression, str]]
    """Comments without effect, each with what is wrong."""


_MENTION = late.pattern(r"trainlint:|noqa", re.IGNORECASE)
_OURS = late.pattern(
    r"#\s*trainlint:\s*(?P<verb>file-ignore|ignore)\b(?:\s*\[(?P<names>[^\]\n\r]*)\])?",
    re.IGNORECASE,
)
_NOQA = late.pattern(
    r"#\s*noqa(?![\w-])(?:\s*:\s*(?P<names>[A-Z]+[0-9]+(?:[\s,]+[A-Z]+[0-9]+)*))?",
    re.IGNORECASE,
)
_CODE = late.pattern(r"TL\d{3}\Z")
_PIECE = late.pattern(
    r'"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*"""'
    r"|'''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*'''"
    r'|"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
    r"|'[^'\\\n]*(?:\\.[^'\\\n]*)*'"
    r"|#[^\n\r]*|\r\n|\r|\n",
    re.DOTALL,
)


def find(source: Source) -> list[Suppression]:
    """The suppressions of a file, in order."""
    if not _MENTION.search(source.text):
        return []
    lines = split_lines(source.text)
    found: list[Suppression] = []
    for row, column, comment in _comments(source.text):
        before = lines[row - 1][: column - 1]
        found += _read(source, comment, row, column, before.isspace() or not before, lines)
    return found


def _comments(text: str) -> Iterable[tuple[int, int, str]]:
    """Row, column and text of each comment, strings skipped."""
    row, line_start = 1, 0
    for piece in _PIECE.finditer(text):
        token = piece.group()
        if token[0] == "#":
            yield row, piece.start() - line_start + 1, token
        elif token[0] in "\r\n":
            row, line_start = row + 1, piece.end()
        elif "\n" in token or "\r" in token:
            ends = list(re.finditer(r"\r\n|\r|\n", token))
            row, line_start = row + len(ends), piece.start() + ends[-1].end()


def _read(
    source: Source,
    comment: str,
    row: int,
    column: int,
    alone: bool,
    lines: Sequence[str],
) -> Iterable[Suppression]:
    cell, cell_row, _ = source.locate(row, column)
    for match in _OURS.finditer(comment):
        names = match["names"]
        if names is None:
            reach = Reach.NOTHING
        elif match["verb"].lower() == "file-ignore":
            reach = Reach.FILE
        else:
            reach = Reach.NEXT if alone else Reach.STATEMENT
        selectors = tuple(name.strip() for name in (names or "").split(",") if name.strip())
        target = _next_code(lines, row) - row + cell_row if reach is Reach.NEXT else cell_row
        at = column + match.start()
        end = column + match.end()
        yield Suppression(reach, selectors, cell, cell_row, at, end, target, True)
    for match in _NOQA.finditer(comment):
        names = match["names"]
        codes = None if names is None else tuple(re.split(r"[\s,]+", names.upper()))
        at, end = column + match.start(), column + match.end()
        yield Suppression(Reach.STATEMENT, codes, cell, cell_row, at, end, cell_row, False)


def _next_code(lines: Sequence[str], row: int) -> int:
    """The row of the line that a comment alone on its line stands above.

    Comments may be stacked; a blank line ends their reach.
    """
    for index in range(row, len(lines)):
        text = lines[index].strip()
        if not text:
            break
        if not text.startswith("#"):
            return index + 1
    return row


def apply(
    diagnostics: Iterable[Diagnostic],
    suppressions: Sequence[Suppression],
    known: Callable[[str], str | None],
    checked: Callable[[str], bool],
) -> Outcome:
    """Leave out what is suppressed and tell which suppressions did nothing.

    `known` gives the code for a code or a name, `checked` whether this run could have reported
    that code: a suppression of a rule that was not selected is not unused.
    """
    meant = [_codes(suppression, known) for suppression in suppressions]
    used: set[tuple[int, str]] = set()
    kept: list[Diagnostic] = []
    for diagnostic in diagnostics:
        hits = [
            index
            for index, suppression in enumerate(suppressions)
            if _covers(suppression, meant[index], diagnostic)
        ]
        used.update((index, diagnostic.code) for index in hits)
        if not hits:
            kept.append(diagnostic)
    unused = [
        (suppression, problem)
        for index, suppression in enumerate(suppressions)
        if (problem := _unused(suppression, known, checked, {c for i, c in used if i == index}))
    ]
    return Outcome(kept, unused)


def _codes(suppression: Suppression, known: Callable[[str], str | None]) -> frozenset[str] | None:
    """The codes that a suppression names; None for all."""
    if suppression.selectors is None:
        return None
    return frozenset(code for name in suppression.selectors if (code := known(name)))


def _covers(suppression: Suppression, codes: frozenset[str] | None, found: Diagnostic) -> bool:
    if suppression.cell != found.cell or suppression.reach is Reach.NOTHING:
        return False
    if codes is not None and found.code not in codes:
        return False
    if suppression.reach is Reach.FILE:
        return True
    span = found.statement or found.span
    first, last = span.start.row, _last_row(span)
    return first <= suppression.row <= last or first <= suppression.target <= last


def _last_row(span: Span) -> int:
    """The last row that holds any of the span's characters."""
    ends_before_row = span.end.column == 1 and span.end.row > span.start.row
    return span.end.row - 1 if ends_before_row else span.end.row


def _unused(
    suppression: Suppression,
    known: Callable[[str], str | None],
    checked: Callable[[str], bool],
    used: set[str],
) -> str:
    """What is wrong with a suppression; empty if nothing."""
    if suppression.reach is Reach.NOTHING or (suppression.ours and not suppression.selectors):
        return "a suppression without rules in brackets has no effect: write `ignore[TL101]`"
    unknown: list[str] = []
    idle: list[str] = []
    for name in suppression.selectors or ():
        code = known(name)
        if code is None:
            if suppression.ours or _CODE.match(name):
                unknown.append(name)
        elif code not in used and checked(code) and code != "TL003":
            idle.append(name)
    problems = []
    if unknown:
        problems.append(f"{_listed(unknown)}: no such rule")
    if idle:
        problems.append(f"{_listed(idle)} suppresses nothing here")
    return "; ".join(problems)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def span_of(suppression: Suppression) -> Span:
    """Where the comment's marker stands."""
    start = Position(suppression.row, suppression.column)
    return Span(start, Position(suppression.row, suppression.end))
