"""What earlier runs found, on disk: JSON, replaced atomically, ignored where it is damaged.

A result is taken from here only if the file's content, the content of every other file that it
was made from, and the answers of the file system that it rests on are what they were. An
unchanged stamp (size, times, inode) stands for unchanged content, except shortly after a change,
when a second one could hide behind the same time.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from trainlint import __version__
from trainlint.check import (
    NO_STAMP,
    FileResult,
    Plan,
    World,
    digest_of,
)
from trainlint.core.catalogue import RuleInfo
from trainlint.core.diagnostic import (
    Applicability,
    Diagnostic,
    Edit,
    Fix,
    Position,
    Related,
    Severity,
    Span,
)
from trainlint.core.digest import blake2b
from trainlint.syntax.source import Stamp, UnreadableSource, read
from trainlint.syntax.suppress import Reach, Suppression

FOLDER = ".trainlint_cache"
FORMAT = 1
MAX_ENTRIES = 20_000
MAX_BYTES = 64_000_000
MAX_BOOKS = 12
_SETTLED = 2_000_000_000
"""Nanoseconds after which a file system's clock surely shows another time."""

_PACKAGE = os.path.dirname(os.path.abspath(__file__))


class ProjectState(World, Protocol):
    """A world that can also tell whether anything in it has changed."""

    def stamp(self, path: str) -> Stamp | None:
        """A file's stamp."""

    def state_of(self, path: str) -> str:
        """A digest of the names, sizes and times of all files of a file's project."""


def fingerprint() -> str:
    """Changes with trainlint itself, its version, its rules, Python and libcst."""
    mark = blake2b(f"{__version__} {sys.version_info} {FORMAT}".encode(), digest_size=16)
    for folder in (_PACKAGE, *_inner_folders(_PACKAGE)):
        with os.scandir(folder) as listing:
            entries = sorted((e for e in listing if e.name.endswith(".py")), key=lambda e: e.name)
        for entry in entries:
            status = entry.stat()
            mark.update(
                f"{entry.path}{status.st_size}{status.st_mtime_ns}".encode("utf-8", "replace")
            )
    mark.update(_libcst_stamp().encode())
    return mark.hexdigest()


def _inner_folders(folder: str) -> list[str]:
    with os.scandir(folder) as listing:
        inner = sorted(
            e.path for e in listing if e.is_dir(follow_symlinks=False) and e.name != "__pycache__"
        )
    return [path for first in inner for path in (first, *_inner_folders(first))]


def _libcst_stamp() -> str:
    for folder in sys.path:
        try:
            status = os.stat(os.path.join(folder, "libcst", "_version.py"))
        except OSError:
            continue
        return f"{status.st_size} {status.st_mtime_ns}"
    return ""


class Store:
    """The cache folder of a project."""

    def __init__(self, folder: str, root: str) -> None:
        self.folder = folder
        self._root = root
        self._fingerprint = fingerprint()
        self._books: dict[Plan, Book] = {}
        self.trouble: str | None = None
        """Why nothing could be written, if so."""

    def book(self, plan: Plan) -> Book:
        """The results under one plan."""
        if plan not in self._books:
            text = repr((self._fingerprint, self._root, sorted(plan.codes), plan.semantics))
            name = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
            book = Book(os.path.join(self._versioned, f"{name}.json"), self._root)
            self._books[plan] = book
        return self._books[plan]

    def rules(self) -> list[RuleInfo] | None:
        """The catalogue as it was last, which saves importing sixty modules."""
        rows = _read_json(self._catalogue_path)
        try:
            return [
                RuleInfo(
                    code,
                    name,
                    Severity(severity),
                    default,
                    static,
                    live,
                    flow,
                    summary,
                    tuple(trigger.encode("latin-1") for trigger in triggers),
                )
                for code, name, severity, default, static, live, flow, summary, triggers in rows
            ] or None
        except (TypeError, ValueError, LookupError, AttributeError):
            return None

    def keep_rules(self, rules: Iterable[RuleInfo]) -> None:
        """Remember the catalogue."""
        rows = [
            [*rule[:2], rule.severity.value, *rule[3:-1], [t.decode("latin-1") for t in rule[-1]]]
            for rule in rules
        ]
        self._write(self._catalogue_path, json.dumps(rows))

    def save(self) -> None:
        """Write the books that have changed."""
        changed = [book for book in self._books.values() if book.changed]
        for book in changed:
            self._write(book.path, book.dump())
        if changed and not self.trouble:
            self._tidy()

    @property
    def _versioned(self) -> str:
        return os.path.join(self.folder, __version__)

    @property
    def _catalogue_path(self) -> str:
        return os.path.join(self._versioned, f"catalogue-{self._fingerprint[:16]}.json")

    def _write(self, path: str, text: str) -> None:
        if self.trouble:
            return
        try:
            os.makedirs(self._versioned, exist_ok=True)
            ignore = os.path.join(self.folder, ".gitignore")
            if not os.path.exists(ignore):
                write_atomically(ignore, b"# Made by trainlint.\n*\n")
            write_atomically(path, text.encode("ascii"))
        except OSError as error:
            self.trouble = f"{self.folder}: {(error.strerror or str(error)).lower()}"

    def _tidy(self) -> None:
        """Bound the folder: the newest books of this version stay."""
        try:
            books = [e for e in os.scandir(self._versioned) if e.name.endswith(".json")]
            books.sort(key=lambda e: e.stat().st_mtime_ns, reverse=True)
            for entry in books[MAX_BOOKS:]:
                os.unlink(entry.path)
            for entry in os.scandir(self._versioned):
                # What a process left that was killed while it wrote.
                if entry.name.endswith(".tmp") and time.time() - entry.stat().st_mtime > 3600:
                    os.unlink(entry.path)
        except OSError:
            pass


def write_atomically(path: str, data: bytes) -> None:
    """Replace a file by one rename, so that no reader ever sees half of it."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def clean(folder: str) -> bool:
    """Remove a cache folder; False if there is none. What is not ours stays."""
    import shutil

    if not os.path.isdir(folder):
        return False
    try:
        with open(os.path.join(folder, ".gitignore"), "rb") as file:
            ours = b"trainlint" in file.read(200)
    except OSError:
        ours = not os.listdir(folder)
    if not ours:
        raise OSError(f"{folder} was not made by trainlint")
    shutil.rmtree(folder)
    return True


class Entry(NamedTuple):
    """One file's result as it is kept."""

    stamp: Stamp
    digest: str
    read_at: int
    """Nanoseconds since the epoch; a stamp younger than this by little is not trusted."""
    result: list[Any] | None
    """Packed; None for a file that is clean on its own account."""


class Book:
    """All results under one plan, in one file."""

    def __init__(self, path: str, root: str) -> None:
        self.path = path
        self._prefix = root.rstrip(os.sep) + os.sep
        self._entries, self._seen = _read_book(path)
        self._used: set[str] = set()
        self._fresh: dict[tuple[str, Stamp, str], bool] = {}
        self.changed = False

    def get(self, path: str, world: ProjectState) -> FileResult | None:
        """The result for a file if everything that it rests on is unchanged."""
        key = self._shorten(path)
        row = self._entries.get(key)
        if row is None:
            return None
        try:
            entry = Entry(Stamp(*row[0]), row[1], row[2], row[3])
            stamp = self._current(path, entry, world)
            if stamp is None:
                return None
            result = self._unpack(entry, world, path)
        except (TypeError, ValueError, LookupError, AttributeError, OSError):
            return None
        if result is not None:
            self._used.add(key)
            if stamp != entry.stamp or not _settled(stamp, entry.read_at):
                self._entries[key] = [list(stamp), entry.digest, time.time_ns(), entry.result]
                self.changed = True
        return result

    def put(self, path: str, result: FileResult, read_at: int, world: ProjectState) -> None:
        """Keep a result."""
        if result.stamp is None:
            return
        key = self._shorten(path)
        packed = self._pack(result, world, path)
        self._entries[key] = [list(result.stamp), result.digest, read_at, packed]
        self._used.add(key)
        self.changed = True

    def dump(self) -> str:
        """The book as JSON, together with what other processes wrote meanwhile."""
        entries = self._entries
        if _stamp_of(self.path) != self._seen:
            others, _ = _read_book(self.path)
            entries = {**others, **{key: entries[key] for key in entries if key in self._used}}
            for key, row in self._entries.items():
                entries.setdefault(key, row)
        if len(entries) > MAX_ENTRIES:
            order = sorted(
                entries, key=lambda key: (key not in self._used, -_read_at(entries[key]))
            )
            entries = {key: entries[key] for key in order[:MAX_ENTRIES]}
        text = json.dumps({"format": FORMAT, "entries": entries}, separators=(",", ":"))
        if len(text) > MAX_BYTES:
            entries = {key: row for key, row in entries.items() if key in self._used}
            text = json.dumps({"format": FORMAT, "entries": entries}, separators=(",", ":"))
        return text if len(text) <= MAX_BYTES else json.dumps({"format": FORMAT, "entries": {}})

    def _current(self, path: str, entry: Entry, world: ProjectState) -> Stamp | None:
        """The file's stamp now if its content is that of the entry."""
        stamp = world.stamp(path)
        if stamp is None:
            return None
        if stamp == entry.stamp and _settled(stamp, entry.read_at):
            return stamp
        if not entry.digest or stamp.size != entry.stamp.size:
            return None
        try:
            reading = read(path)
        except UnreadableSource:
            return None
        return reading.stamp if digest_of(reading.data) == entry.digest else None

    # Packing: lists and strings, with paths below the project's root made relative to it.

    def _shorten(self, path: str) -> str:
        return path[len(self._prefix) :] if path.startswith(self._prefix) else path

    def _lengthen(self, path: str) -> str:
        return path if os.path.isabs(path) else self._prefix + path

    def _pack(self, result: FileResult, world: ProjectState, path: str) -> list[Any] | None:
        if not any(result[field] for field in (0, 1, 4, 5, 6, 7)) and result.parsed:
            return None
        return [
            [self._pack_diagnostic(found) for found in result.diagnostics],
            [[s.reach.value, *s[1:]] for s in result.suppressions],
            [[self._shorten(d.path), list(d.stamp), d.digest] for d in result.dependencies],
            [
                [q.module, self._shorten(q.from_path), q.answer and self._shorten(q.answer)]
                for q in result.lookups
            ],
            [[m.name, self._shorten(m.path), m.answer] for m in result.mentions],
            world.state_of(path) if result[4] or result[5] or result[6] else "",
            list(result.notes),
            result.parsed,
        ]

    def _unpack(self, entry: Entry, world: ProjectState, path: str) -> FileResult | None:
        if entry.result is None:
            return FileResult(stamp=entry.stamp, digest=entry.digest)
        result = entry.result
        found, comments, dependencies, lookups, mentions, state, notes, parsed = result
        if (dependencies or lookups or mentions) and not (state and world.state_of(path) == state):
            if not self._still_holds(dependencies, lookups, mentions, entry, world):
                return None
            if result[5] != world.state_of(path):
                result[5] = world.state_of(path)
                self.changed = True
        return FileResult(
            tuple(self._unpack_diagnostic(row) for row in found),
            tuple(
                Suppression(Reach(row[0]), None if row[1] is None else tuple(row[1]), *row[2:])
                for row in comments
            ),
            entry.stamp,
            entry.digest,
            notes=tuple(notes),
            parsed=parsed,
        )

    def _still_holds(
        self,
        dependencies: list[Any],
        lookups: list[Any],
        mentions: list[Any],
        entry: Entry,
        world: ProjectState,
    ) -> bool:
        """Whether everything outside the file that a result rests on is what it was."""
        return (
            all(
                self._unchanged(self._lengthen(other), Stamp(*stamp), digest, entry.read_at)
                for other, stamp, digest in dependencies
            )
            and all(
                world.find(module, self._lengthen(asker)) == (answer and self._lengthen(answer))
                for module, asker, answer in lookups
            )
            and all(
                world.mentioned_elsewhere(name, self._lengthen(asker)) == said
                for name, asker, said in mentions
            )
        )

    def _unchanged(self, path: str, stamp: Stamp, digest: str, read_at: int) -> bool:
        key = (path, stamp, digest)
        if key not in self._fresh:
            self._fresh[key] = _unchanged(path, stamp, digest, read_at)
        return self._fresh[key]

    def _pack_diagnostic(self, found: Diagnostic) -> list[Any]:
        fix = found.fix and [
            found.fix.applicability.value,
            found.fix.message,
            [[edit.content, edit.span] for edit in found.fix.edits],
        ]
        related = [[r.message, self._shorten(r.filename), r.cell, r.span] for r in found.related]
        return [
            found.code,
            found.name,
            found.severity.value,
            found.message,
            self._shorten(found.filename),
            found.span,
            found.cell,
            related,
            found.help,
            fix,
            found.statement,
        ]

    def _unpack_diagnostic(self, row: list[Any]) -> Diagnostic:
        code, name, severity, message, filename, span, cell, related, advice, fix, statement = row
        return Diagnostic(
            code,
            name,
            Severity(severity),
            message,
            self._lengthen(filename),
            _span(span),
            cell,
            tuple(Related(m, self._lengthen(f), c, _span(s)) for m, f, c, s in related),
            advice,
            Fix(Applicability(fix[0]), fix[1], tuple(Edit(c, _span(s)) for c, s in fix[2]))
            if fix
            else None,
            _span(statement) if statement else None,
        )


def _span(value: list[list[int]]) -> Span:
    return Span(Position(*value[0]), Position(*value[1]))


def _settled(stamp: Stamp, read_at: int) -> bool:
    return max(stamp.mtime, stamp.ctime) + _SETTLED < read_at


def _unchanged(path: str, stamp: Stamp, digest: str, read_at: int) -> bool:
    """Whether another file's content is what it was."""
    try:
        now = Stamp.of(os.stat(path))
    except (OSError, ValueError):
        return not digest
    if now == stamp and _settled(stamp, read_at):
        return True
    if not digest or now.size != stamp.size:
        return False
    try:
        return digest_of(read(path).data) == digest
    except UnreadableSource:
        return False


def _stamp_of(path: str) -> Stamp:
    try:
        return Stamp.of(os.stat(path))
    except OSError:
        return NO_STAMP


def _read_book(path: str) -> tuple[dict[str, list[Any]], Stamp]:
    seen = _stamp_of(path)
    document = _read_json(path)
    if isinstance(document, dict) and document.get("format") == FORMAT:
        entries = document.get("entries")
        if isinstance(entries, dict):
            return entries, seen
    return {}, seen


def _read_json(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        return json.loads(data) if len(data) <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None


def _read_at(row: Any) -> int:
    return row[2] if isinstance(row, list) and len(row) > 2 and isinstance(row[2], int) else 0
