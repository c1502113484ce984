"""Source to IR, everything that can go wrong on the way told as the two errors of `source`."""

from __future__ import annotations

import warnings

from libcst import LIBCST_VERSION, ParserSyntaxError

from trainlint.flow import ir
from trainlint.syntax.guard import guard
from trainlint.syntax.lower import lower
from trainlint.syntax.source import InvalidSource, Source, UnreadableSource


def parse(source: Source) -> ir.Module:
    """The IR of a source; raises `UnreadableSource` or `InvalidSource`."""
    guard(source.text)
    try:
        return lower(source.text, source.path, cell_starts=source.cell_starts)
    except ParserSyntaxError as error:
        raise _syntax_error(source, error.raw_line, error.raw_column + 1) from None
    except (RecursionError, ValueError) as error:
        problem = f"cannot be parsed: {str(error) or 'nested too deeply'}"
        raise InvalidSource(problem) from None


def _syntax_error(source: Source, row: int, column: int) -> InvalidSource | UnreadableSource:
    """The running Python's words and place where it refuses the code too: they are better.

    What it takes and libcst does not, `(name): int`, is no error of the file's.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source.text, "<checked>", "exec", 0x400, dont_inherit=True)  # only the AST
    except SyntaxError as error:
        problem = error.msg or "invalid syntax"
        return InvalidSource(problem, error.lineno or row, max(error.offset or column, 1))
    except (ValueError, MemoryError, RecursionError, OverflowError):
        return InvalidSource("invalid syntax", row, column)
    place = f"row {row}, column {column}"
    return UnreadableSource(f"is Python that libcst {LIBCST_VERSION} cannot parse: {place}")
