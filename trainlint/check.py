"""One file, from its bytes to its diagnostics.

Runs in a worker or in the command line's own process. What it gives is plain data, so that it can
be sent between processes and kept in the cache.
"""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

from trainlint.core.diagnostic import Diagnostic, Position, Related, Severity, Span
from trainlint.core.digest import blake2b
from trainlint.syntax import suppress
from trainlint.syntax.source import (
    InvalidSource,
    Reading,
    Source,
    Stamp,
    UnreadableSource,
    decode,
    is_notebook,
    read,
)
from trainlint.syntax.suppress import Suppression

if TYPE_CHECKING:
    from trainlint.core.rule import Finding
    from trainlint.flow import ir


class Dependency(NamedTuple):
    """Another file that a result was made from; `digest` is empty if it could not be read."""

    path: str
    stamp: Stamp
    digest: str


class Lookup(NamedTuple):
    """A question to the file system that a result rests on, and its answer."""

    module: str
    from_path: str
    answer: str | None


class Mention(NamedTuple):
    """Whether another file of the project mentions a name."""

    name: str
    path: str
    answer: bool


class FileResult(NamedTuple):
    """What checking one file gave. The diagnostics may lie in other files as well."""

    diagnostics: tuple[Diagnostic, ...] = ()
    suppressions: tuple[Suppression, ...] = ()
    stamp: Stamp | None = None
    digest: str = ""
    dependencies: tuple[Dependency, ...] = ()
    lookups: tuple[Lookup, ...] = ()
    mentions: tuple[Mention, ...] = ()
    notes: tuple[str, ...] = ()
    parsed: bool = True
    """The file could be parsed, or did not have to be."""


class World(Protocol):
    """What a check may ask about the rest of the project."""

    def find(self, dotted: str, from_path: str) -> str | None:
        """The project's file for a module name."""

    def mentioned_elsewhere(self, name: str, path: str) -> bool:
        """Whether another file of the project mentions that name."""


class Plan(NamedTuple):
    """What to look for."""

    codes: frozenset[str]
    triggers: tuple[bytes, ...]
    """Of the rules that need flow."""
    semantics: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The user's own helpers, by the keys of `[tool.trainlint.semantics]`."""


NO_STAMP = Stamp(-1, -1, -1, -1)
EVERYWHERE = b""
"""The trigger of a rule that any file can violate."""


def digest_of(data: bytes) -> str:
    """The content's name in the cache."""
    return blake2b(data, digest_size=16).hexdigest()


# --- the gate ------------------------------------------------------------------------------


class Gate:
    """Whether any of the selected rules' triggers occurs in a file's bytes."""

    def __init__(self, triggers: Iterable[bytes]) -> None:
        found = frozenset(triggers)
        self._open = EVERYWHERE in found
        # A trigger that contains another one can never be the only one to occur.
        least = sorted(t for t in found if not any(o in t for o in found if o != t))
        self._search = re.compile(b"|".join(map(re.escape, least))).search if least else None

    def passes(self, data: bytes, path: str) -> bool:
        """Whether a file has to be parsed."""
        if self._open:
            return True
        if self._search is None:
            return False
        if is_notebook(path) or _may_declare_encoding(data):
            return self._passes_decoded(data, path)
        return self._search(data) is not None

    def _passes_decoded(self, data: bytes, path: str) -> bool:
        """JSON escapes and other encodings can hide a trigger."""
        try:
            text = decode(data, path).text
        except (UnreadableSource, InvalidSource):
            return True  # the check will say what is wrong
        return self._search is not None and self._search(text.encode()) is not None


@lru_cache(maxsize=8)
def _gate_of(triggers: tuple[bytes, ...]) -> Gate:
    """The gate of a plan, of which a whole check has one or a few."""
    return Gate(triggers)


def is_parsed(path: str, plan: Plan) -> bool:
    """Whether a file passes the gate, so that its check needs libcst and flow."""
    try:
        return _gate_of(plan.triggers).passes(read(path).data, path)
    except UnreadableSource:
        return False


def _may_declare_encoding(data: bytes) -> bool:
    return b"coding" in data[:400] and b"utf-8" not in data[:400].lower()


# --- one file ------------------------------------------------------------------------------


class Lowered(NamedTuple):
    """A parsed file, as the check remembers it."""

    source: Source
    module: ir.Module
    stamp: Stamp
    digest: str


class Sketched(NamedTuple):
    """What a file's text shows, and which content that was."""

    sketch: ir.Sketch
    stamp: Stamp
    digest: str


class Checker:
    """Checks files under one plan, and remembers the last files that it parsed."""

    MAX_REMEMBERED = 3_000_000
    """Characters of source of the files that are kept as they were lowered."""
    MAX_NEIGHBOUR = 600_000
    """Bytes of another file that is looked into: 15,000 lines. A larger one is a table of cases or
    generated, and to parse what it has outside functions takes hundreds of megabytes."""
    MAX_SKETCHES = 3_000
    """Sketches kept; one takes some 15 kilobytes."""

    def __init__(self, world: World, given: dict[str, bytes] | None = None) -> None:
        """`given` holds the bytes of files that are not as they are on disk: standard input."""
        self.world = world
        self._given = given or {}
        self.parsed = 0
        """Characters parsed since whoever owns the checker last set it back."""
        self._lowered: OrderedDict[str, Lowered | None] = OrderedDict()
        self._remembered = 0
        self._sketches: OrderedDict[str, Sketched | None] = OrderedDict()

    def check(self, path: str, plan: Plan) -> FileResult:
        """The diagnostics of one file."""
        try:
            reading = self._read(path)
        except UnreadableSource as error:
            return FileResult((_unreadable(path, error),), parsed=False)
        gate = _gate_of(plan.triggers)
        if not gate.passes(reading.data, path):
            return self._without_flow(path, reading, plan)
        digest = digest_of(reading.data)
        try:
            lowered = self._lower(path, reading, digest)
            _refusal(lowered)  # that another file's check met with
            result = self._with_flow(lowered, plan)
            if (problem := _refusal(lowered)) is not None:
                raise problem
        except UnreadableSource as error:
            found = _unreadable(path, error)
        except InvalidSource as error:
            found = _invalid(path, error, reading.data)
        else:
            return result
        return FileResult((found,), stamp=reading.stamp, digest=digest, parsed=False)

    def _read(self, path: str) -> Reading:
        given = self._given.get(path)
        return read(path) if given is None else Reading(given, NO_STAMP)

    def _without_flow(self, path: str, reading: Reading, plan: Plan) -> FileResult:
        """A file that no selected rule can be violated in is still to be Python."""
        problem = syntax_problem(path, reading.data)
        if problem is not None:
            digest = digest_of(reading.data)
            return FileResult((problem,), stamp=reading.stamp, digest=digest, parsed=False)
        found: tuple[Suppression, ...] = ()
        if "TL003" in plan.codes and (b"trainlint" in reading.data or b"noqa" in reading.data):
            found = tuple(suppress.find(decode(reading.data, path)))
        return FileResult(suppressions=found, stamp=reading.stamp, digest="")

    def _lower(self, path: str, reading: Reading, digest: str) -> Lowered:
        known = self._lowered.get(path)
        if known is not None and known.digest == digest:
            self._lowered.move_to_end(path)
            return known
        source = decode(reading.data, path)
        self.parsed += len(source.text)
        lowered = Lowered(source, _parse(source), reading.stamp, digest)
        self._remember(path, lowered)
        return lowered

    def _remember(self, path: str, lowered: Lowered) -> None:
        old = self._lowered.pop(path, None)
        self._remembered += len(lowered.source.text) - (len(old.source.text) if old else 0)
        self._lowered[path] = lowered
        while self._remembered > self.MAX_REMEMBERED and len(self._lowered) > 1:
            _, dropped = self._lowered.popitem(last=False)
            self._remembered -= len(dropped.source.text) if dropped else 0

    def load(self, path: str) -> Lowered | None:
        """Another file of the project; None if it cannot be read or parsed.

        One that is too large is as if there were nothing in it.
        """
        try:
            reading = self._read(path)
            digest = digest_of(reading.data)
            if len(reading.data) > self.MAX_NEIGHBOUR:
                return _unread(path, reading, digest)
            return self._lower(path, reading, digest)
        except (UnreadableSource, InvalidSource):
            return None

    def sketch(self, path: str) -> Sketched | None:
        """What another file's text shows, as it was when first asked for; None if unreadable."""
        if path in self._sketches:
            self._sketches.move_to_end(path)
            return self._sketches[path]
        try:
            reading = self._read(path)
            found = _sketch(decode(reading.data, path).text)
        except (UnreadableSource, InvalidSource):
            self._sketches[path] = None
        else:
            self._sketches[path] = Sketched(found, reading.stamp, digest_of(reading.data))
        if len(self._sketches) > self.MAX_SKETCHES:
            self._sketches.popitem(last=False)
        return self._sketches[path]

    def _with_flow(self, lowered: Lowered, plan: Plan) -> FileResult:
        loader = _Loader(self, lowered)
        findings, notes = interpret(lowered, loader, plan)
        return FileResult(
            diagnostics=tuple(_diagnostics(findings, loader.opened)),
            suppressions=tuple(suppress.find(lowered.source)),
            stamp=lowered.stamp,
            digest=lowered.digest,
            dependencies=loader.dependencies(),
            lookups=tuple(loader.lookups.values()),
            mentions=tuple(loader.mentions.values()),
            notes=(*notes, *loader.notes()),
        )


class _Loader:
    """What flow asks about other files while one file is checked, written down for the cache."""

    MAX_TEXT = 2_000_000
    """Characters of other files that are read for one: 50,000 lines, two seconds of parsing."""

    def __init__(self, checker: Checker, first: Lowered) -> None:
        self._checker = checker
        self._first = first
        self.opened: dict[str, Lowered | None] = {first.source.path: first}
        self._text_left = self.MAX_TEXT
        self.sketched: dict[str, Sketched | None] = {}
        self.lookups: dict[tuple[str, str], Lookup] = {}
        self.mentions: dict[tuple[str, str], Mention] = {}

    def load(self, path: str) -> ir.Module | None:
        if path not in self.opened:
            if self._text_left <= 0:
                return None
            found = self.opened[path] = self._checker.load(path)
            self._text_left -= len(found.source.text) if found else 0
        found = self.opened[path]
        return found.module if found else None

    def notes(self) -> tuple[str, ...]:
        """What `--verbose` tells of the reading."""
        own = self._first.source.path
        notes = [
            f"{own}: it draws on {path}, which is too large to be read for another file"
            for path, found in self.opened.items()
            if found is not None and found.module.tree is None
        ]
        if self._text_left <= 0:
            notes.append(f"{own}: it draws on more code than is read for one file")
        return tuple(notes)

    def sketch(self, path: str) -> ir.Sketch | None:
        if path not in self.sketched:
            self.sketched[path] = self._checker.sketch(path)
        found = self.sketched[path]
        return found.sketch if found else None

    def find(self, dotted: str, from_path: str) -> str | None:
        key = (dotted, from_path)
        if key not in self.lookups:
            self.lookups[key] = Lookup(*key, self._checker.world.find(dotted, from_path))
        return self.lookups[key].answer

    def mentioned_elsewhere(self, name: str, path: str) -> bool:
        key = (name, path)
        if key not in self.mentions:
            answer = self._checker.world.mentioned_elsewhere(name, path)
            self.mentions[key] = Mention(*key, answer)
        return self.mentions[key].answer

    def dependencies(self) -> tuple[Dependency, ...]:
        return tuple(
            Dependency(path, found.stamp, found.digest) if found else Dependency(path, NO_STAMP, "")
            for path, found in sorted({**self.sketched, **self.opened}.items())
            if path != self._first.source.path
        )


# --- libcst and flow, imported only when a file is parsed ----------------------------------


def _unread(path: str, reading: Reading, digest: str) -> Lowered:
    from trainlint.flow import ir

    return Lowered(Source(path, ""), ir.Module(path, ()), reading.stamp, digest)


def _parse(source: Source) -> ir.Module:
    from trainlint.syntax.parse import parse

    return parse(source)


def _refusal(lowered: Lowered) -> InvalidSource | UnreadableSource | None:
    """What was found wrong when the file's functions were looked into."""
    from trainlint.syntax.parse import refused

    return refused(lowered.source, lowered.module)


def _sketch(text: str) -> ir.Sketch:
    from trainlint.flow.reach import IMPLICIT
    from trainlint.libraries.words import DOMAIN
    from trainlint.syntax.sketch import sketch

    return sketch(text, DOMAIN, IMPLICIT)


def interpret(
    lowered: Lowered, loader: _Loader, plan: Plan
) -> tuple[list[Finding], tuple[str, ...]]:
    """Run the program abstractly: the findings, and notes for `--verbose`."""
    from trainlint.flow import analyse
    from trainlint.flow.project import Project
    from trainlint.rules import all_rules

    rules = [rule for rule in all_rules() if rule.code in plan.codes and rule.on]
    project = Project(loader)
    analysis = analyse(lowered.module, project, rules, dict(plan.semantics))
    project.let_go()
    return list(analysis.findings), tuple(getattr(analysis, "notes", ()))


def _diagnostics(
    findings: list[Finding], opened: dict[str, Lowered | None]
) -> Iterable[Diagnostic]:
    """Findings with rows and columns, each once; one whose file is not open is left out."""
    nodes: dict[str, set[int]] = {}
    for finding in findings:
        for site in (finding.site, *(origin.site for origin in finding.trail)):
            nodes.setdefault(site.path, set()).add(site.node)
    places = {
        path: {
            node: (location[0], location[1])
            for node, location in lowered.module.tree.locate(wanted).items()
        }
        for path, wanted in nodes.items()
        if (lowered := opened.get(path))
    }
    seen: set[Diagnostic] = set()
    for finding in findings:
        diagnostic = _diagnostic(finding, opened, places)
        if diagnostic is not None and diagnostic not in seen:
            seen.add(diagnostic)
            yield diagnostic


Places = dict[str, dict[int, tuple[Span, Span]]]


def _diagnostic(
    finding: Finding, opened: dict[str, Lowered | None], places: Places
) -> Diagnostic | None:
    path = finding.site.path
    place = places.get(path, {}).get(finding.site.node)
    lowered = opened.get(path)
    if place is None or lowered is None:
        return None
    cell, span = in_cell(lowered.source, place[0])
    related: list[Related] = []
    for origin in finding.trail:
        other = opened.get(origin.site.path)
        where = places.get(origin.site.path, {}).get(origin.site.node)
        if other and where:
            step = Related(origin.note, origin.site.path, *in_cell(other.source, where[0]))
            if step not in related:
                related.append(step)
    return Diagnostic(
        finding.rule.code,
        finding.rule.name,
        finding.severity,
        finding.message,
        path,
        span,
        cell,
        tuple(related),
        finding.help,
        None,
        in_cell(lowered.source, place[1])[1],
    )


def in_cell(source: Source, span: Span) -> tuple[int | None, Span]:
    """A span of the joined text as cell and span within it."""
    cell, row, column = source.locate(*span.start)
    end = source.locate(*span.end)
    if end[0] != cell:  # it ends with its cell
        end = (cell, span.end.row - span.start.row + row, span.end.column)
    return cell, Span(Position(row, column), Position(end[1], end[2]))


# --- files that are not Python -------------------------------------------------------------


def _unreadable(path: str, error: UnreadableSource) -> Diagnostic:
    at = Position(error.row, error.column)
    problem = f"the file {error.problem}"
    return Diagnostic("TL002", "unreadable-file", Severity.ERROR, problem, path, Span(at, at))


def _invalid(path: str, error: InvalidSource, data: bytes) -> Diagnostic:
    row, column, cell = error.row, error.column, None
    if is_notebook(path):
        try:
            cell, row, column = decode(data, path).locate(row, column)
        except (UnreadableSource, InvalidSource):
            cell = None
    start = Position(max(row, 1), max(column, 1))
    span = Span(start, start)
    return Diagnostic("TL001", "invalid-syntax", Severity.ERROR, error.problem, path, span, cell)


def syntax_problem(path: str, data: bytes) -> Diagnostic | None:
    """What keeps a file that passes no gate from being Python.

    The running Python's own parser is twenty times faster than libcst; only what it refuses,
    which may be syntax that is newer than it, is shown to libcst.
    """
    try:
        source = decode(data, path)
        if not _python_accepts(source.text):
            _parse(source)
    except UnreadableSource as error:
        return _unreadable(path, error)
    except InvalidSource as error:
        return _invalid(path, error, data)
    return None


def _python_accepts(text: str) -> bool:
    # It parses without making objects of the tree, unlike `ast`.
    from _symtable import symtable  # type: ignore[import-not-found]

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            symtable(text, "<checked>", "exec")
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
        return False
    return True
