"""Source to IR, everything that can go wrong on the way told as the two errors of `source`."""

from __future__ import annotations

import warnings

from libcst import LIBCST_VERSION, ParserSyntaxError

from trainlint.flow import ir
from trainlint.syntax.cut import cuts_of
from trainlint.syntax.guard import guard
from trainlint.syntax.lower import lower
from trainlint.syntax.portions import Portions
from trainlint.syntax.source import InvalidSource, Source, UnreadableSource


def parse(source: Source) -> ir.Module:
    """The IR of a source; raises `UnreadableSource` or `InvalidSource`."""
    guard(source.text)
    try:
        return _lowered(source)
    except (ParserSyntaxError, RecursionError, ValueError) as error:
        raise _problem(source, error) from None


def _lowered(source: Source) -> ir.Module:
    cuts = () if source.is_notebook else cuts_of(source.text)
    if cuts:
        try:
            return Portions(source.text, cuts).lower(source.path)
        except ParserSyntaxError:
            pass  # as a whole, so that the error has its place
    return lower(source.text, source.path, cell_starts=source.cell_starts)


def refused(source: Source, module: ir.Module) -> InvalidSource | UnreadableSource | None:
    """What was found wrong with a parsed file when its bodies were asked for; this is forgotten."""
    if not isinstance(module.tree, Portions) or module.tree.refusal is None:
        return None
    error, lines_before = module.tree.refusal
    module.tree.refusal = None
    return _problem(source, error, lines_before)


def _problem(
    source: Source, error: Exception, lines_before: int = 0
) -> InvalidSource | UnreadableSource:
    if isinstance(error, ParserSyntaxError):
        return _syntax_error(source, error.raw_line + lines_before, error.raw_column + 1)
    return InvalidSource(f"cannot be parsed: {str(error) or 'nested too deeply'}")


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
