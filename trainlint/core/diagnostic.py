"""What a user is told: a diagnostic, its place, its evidence trail and its fix."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from trainlint.core.late import dataclass


class Severity(Enum):
    """How much a finding weighs; errors and warnings make the exit status 1 by default."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for the most severe."""
        return _RANKS[self]


_RANKS = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


class Position(NamedTuple):
    """A 1-based row and a 1-based column that counts characters."""

    row: int
    column: int


class Span(NamedTuple):
    """From the first character up to, not including, the character at `end`."""

    start: Position
    end: Position


class Related(NamedTuple):
    """One step of the evidence trail."""

    message: str
    filename: str
    cell: int | None
    span: Span


class Applicability(Enum):
    """Whether a fix keeps the meaning of everything but the defect."""

    SAFE = "safe"
    UNSAFE = "unsafe"


class Edit(NamedTuple):
    """Replace the text of `span` by `content`."""

    content: str
    span: Span


class Fix(NamedTuple):
    """How to mend a finding by editing the file."""

    applicability: Applicability
    message: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding, ready to be rendered.

    `statement` is the span of the whole statement that holds `span`: a suppression comment on
    any of its lines counts. `cell` is the 1-based position among a notebook's code cells, and
    rows count within it; it is None outside notebooks.
    """

    code: str
    name: str
    severity: Severity
    message: str
    filename: str
    span: Span
    cell: int | None = None
    related: tuple[Related, ...] = ()
    help: str | None = None
    fix: Fix | None = None
    statement: Span | None = None

    @property
    def url(self) -> str:
        """The rule's page."""
        return f"https://trainlint.readthedocs.io/rules/{self.name}"

    @property
    def sort_key(self) -> tuple[str, int, int, int, str, str]:
        """Orders diagnostics by file, cell, row, column and code."""
        return (self.filename, self.cell or 0, *self.span.start, self.code, self.message)
