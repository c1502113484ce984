"""What a person reads in a terminal."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from trainlint.core import late
from trainlint.core.diagnostic import Diagnostic, Severity, Span
from trainlint.syntax.source import InvalidSource, Source, UnreadableSource, decode, read

_CONTEXT = 2
"""Lines shown before and after the primary span."""

_MAX_UNDERLINED = 4
_MAX_WIDTH = 160
"""Characters of a source line that are shown."""

_BOLD, _RED, _YELLOW, _BLUE, _CYAN = "1", "1;31", "1;33", "1;34", "1;36"
_COLOURS = {Severity.ERROR: _RED, Severity.WARNING: _YELLOW, Severity.INFO: _CYAN}

_CONTROL = late.pattern("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Text without what would break the line or drive the terminal."""
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda match: repr(match.group())[1:-1], text)


def shown_path(path: str, cwd: str) -> str:
    """A path relative to the working directory if it lies below."""
    prefix = cwd.rstrip(os.sep) + os.sep
    return printable(path[len(prefix) :] if path.startswith(prefix) else path)


def place(filename: str, cell: int | None, span: Span, cwd: str) -> str:
    """`path:row:column`, in a notebook `path:cell n:row:column`."""
    inside = f":cell {cell}" if cell is not None else ""
    return f"{shown_path(filename, cwd)}{inside}:{span.start.row}:{span.start.column}"


class Paint:
    """ANSI colours, or none."""

    def __init__(self, on: bool) -> None:
        self._on = on

    def __call__(self, text: str, style: str) -> str:
        """`text` in a style."""
        return f"\x1b[{style}m{text}\x1b[0m" if self._on and text else text


class Frames:
    """Source lines, read again only for files that have findings."""

    def __init__(self, given: dict[str, Source] | None = None) -> None:
        self._sources: dict[str, Source | None] = dict(given or {})
        self._lines: dict[str, list[str]] = {}

    def lines(self, filename: str, cell: int | None, first: int, last: int) -> list[str]:
        """The lines from row `first` to row `last`, as far as they exist."""
        source = self._source(filename)
        if source is None:
            return []
        if filename not in self._lines:
            self._lines[filename] = source.lines()
        lines = self._lines[filename]
        top, bottom = source.joined_row(cell, first) - 1, source.joined_row(cell, last)
        if cell is not None and cell < len(source.cell_starts):
            bottom = min(bottom, source.cell_starts[cell] - 1)
        found = lines[max(top, 0) : bottom]
        if bottom >= len(lines) and found and not found[-1]:
            found.pop()  # behind the last line end there is no line
        return found

    def _source(self, filename: str) -> Source | None:
        if filename not in self._sources:
            try:
                self._sources[filename] = decode(read(filename).data, filename)
            except (UnreadableSource, InvalidSource):
                self._sources[filename] = None
        return self._sources[filename]


def concise(diagnostics: Sequence[Diagnostic], cwd: str, colour: bool = False) -> str:
    """One line for each."""
    paint = Paint(colour)
    return "".join(
        f"{paint(place(d.filename, d.cell, d.span, cwd), _BOLD)}: "
        f"{paint(d.code, _COLOURS[d.severity])} {printable(d.message)}\n"
        for d in diagnostics
    )


def full(diagnostics: Sequence[Diagnostic], cwd: str, frames: Frames, colour: bool = False) -> str:
    """Each with its source frame, its evidence trail and its help."""
    paint = Paint(colour)
    return "".join(_full(diagnostic, cwd, frames, paint) + "\n" for diagnostic in diagnostics)


def _full(found: Diagnostic, cwd: str, frames: Frames, paint: Paint) -> str:
    style = _COLOURS[found.severity]
    rows = [found.span.end.row + _CONTEXT, *(related.span.end.row for related in found.related)]
    gutter = len(str(max(rows)))
    bar = " " * gutter + paint(" |", _BLUE)
    head = f"{paint(f'{found.code} {found.name}', style)}: {paint(printable(found.message), _BOLD)}"
    arrow = paint("-->", _BLUE)
    out = [head, f"{' ' * gutter}{arrow} {place(found.filename, found.cell, found.span, cwd)}"]
    frame = _frame(frames, found.filename, found.cell, found.span, gutter, paint, style, "^")
    out += [bar, *frame, bar] if frame else []
    for number, related in enumerate(found.related, 1):
        where = place(related.filename, related.cell, related.span, cwd)
        mark = paint(f"{number}.", _BLUE)
        out.append(f"{' ' * gutter} {mark} {where}: {printable(related.message)}")
        frame = _frame(
            frames, related.filename, related.cell, related.span, gutter, paint, _BLUE, "-", 0
        )
        out += [*frame, bar] if frame else []
    advice = found.help or (found.fix.message if found.fix else None)
    if advice:
        out.append(
            f"{' ' * gutter} {paint('=', _BLUE)} {paint('help', _BOLD)}: {printable(advice)}"
        )
    return "\n".join(out) + "\n"


def _frame(
    frames: Frames,
    filename: str,
    cell: int | None,
    span: Span,
    gutter: int,
    paint: Paint,
    style: str,
    mark: str,
    context: int = _CONTEXT,
) -> list[str]:
    """The lines around a span, the span underlined."""
    first = max(span.start.row - context, 1)
    cut = span.end.row - span.start.row >= _MAX_UNDERLINED
    last = span.start.row + _MAX_UNDERLINED - 1 if cut else span.end.row + context
    out: list[str] = []
    for row, line in enumerate(frames.lines(filename, cell, first, last), first):
        text, under = _underlined(line, row, span)
        out.append(f"{paint(f'{row:>{gutter}} |', _BLUE)} {text}".rstrip())
        if under:
            lead, marks = under
            out.append(f"{' ' * gutter}{paint(' |', _BLUE)} {lead}{paint(mark * marks, style)}")
    if cut and out:
        out.append(f"{' ' * gutter}{paint(' |', _BLUE)} ...")
    return out


def _underlined(line: str, row: int, span: Span) -> tuple[str, tuple[str, int] | None]:
    """A line as shown, and the blanks and the number of marks below it."""
    begin = span.start.column - 1 if row == span.start.row else len(line) - len(line.lstrip())
    end = span.end.column - 1 if row == span.end.row else len(line)
    shift = 0
    if len(line) > _MAX_WIDTH:  # a window around the span's beginning
        shift = max(min(begin - _MAX_WIDTH // 3, len(line) - _MAX_WIDTH), 0)
        line = line[shift : shift + _MAX_WIDTH]
    begin, end = max(begin - shift, 0), min(end - shift, len(line))
    if not span.start.row <= row <= span.end.row or (end <= begin and row != span.start.row):
        return _widened(line), None
    lead = _width(_widened(line[:begin]))
    return _widened(line), (" " * lead, max(_width(_widened(line[begin:end])), 1))


def _widened(line: str) -> str:
    return printable(line.replace("\f", " ").replace("\t", "    "))


def _width(text: str) -> int:
    """Columns of the terminal that a text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text
    )


def statistics(diagnostics: Sequence[Diagnostic], colour: bool = False) -> str:
    """How often each rule was violated, most frequent first."""
    paint = Paint(colour)
    counts = Counter((d.code, d.name) for d in diagnostics)
    fixable = {d.code for d in diagnostics if d.fix}
    width = len(str(max(counts.values(), default=0)))
    star = bool(fixable)
    lines = []
    for (code, name), count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        mark = ("[*] " if code in fixable else "[ ] ") if star else ""
        lines.append(f"{count:>{width}}\t{paint(code, _BOLD)}\t{mark}{name}\n")
    return "".join(lines)


def summary(diagnostics: Sequence[Diagnostic], files: int) -> str:
    """The last line of a run, for people."""
    checked = f"{files:,} file{'' if files == 1 else 's'}"
    if not diagnostics:
        return f"All checks passed: {checked}"
    counts = Counter(d.severity for d in diagnostics)
    words = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
    parts = [
        f"{counts[severity]:,} {word}{'' if counts[severity] == 1 else 's'}"
        for severity, word in words.items()
        if counts[severity]
    ]
    return f"Found {', '.join(parts)} in {checked}"
