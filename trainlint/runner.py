"""Many files: discovery, cache, workers, and the passes over all their diagnostics."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from trainlint.cache import Store
from trainlint.check import FileResult, Plan
from trainlint.config import Finder, Settings
from trainlint.core.catalogue import Catalogue, Layer, RuleInfo
from trainlint.core.diagnostic import Diagnostic, Position, Related, Severity, Span
from trainlint.files import Discovery, Globs, Neighbourhood, Target, discover
from trainlint.syntax import suppress
from trainlint.syntax.source import InvalidSource, Source, UnreadableSource, decode, read

STDIN = "-"


class Options(NamedTuple):
    """What the command line asks of a run."""

    paths: tuple[str, ...]
    cwd: str
    finder: Finder
    layer: Layer = Layer()
    discovery: Discovery = Discovery(Finder())
    cache_folder: str | None = None
    """None for a run without a cache."""
    cache_root: str = ""
    jobs: int | None = None
    stdin: bytes | None = None
    stdin_name: str | None = None
    progress: Callable[[int, int], None] | None = None


class InternalError(NamedTuple):
    """A file whose check failed for a reason of our own."""

    path: str
    trace: str


class Report(NamedTuple):
    """What a run gave."""

    diagnostics: list[Diagnostic]
    files: int
    missing: list[str]
    internal: list[InternalError]
    notes: list[str]
    sources: dict[str, Source]
    """Sources that are not on disk as they were checked."""
    cache_trouble: str | None = None


class Run:
    """One run of `check`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        folder = options.cache_folder
        self._store = Store(folder, options.cache_root) if folder else None
        self.catalogue = self._load_catalogue()
        self._plans: dict[Settings, Plan] = {}
        self._notes: list[str] = []
        self._internal: list[InternalError] = []

    def _load_catalogue(self) -> Catalogue:
        """From the cache if it has it: importing the rules takes longer than all else."""
        rows: Iterable[RuleInfo] | None = self._store.rules() if self._store else None
        if rows is not None:
            return Catalogue(rows)
        from trainlint.rules import catalogue

        found = catalogue()
        if self._store:
            self._store.keep_rules(found.rules)
        return found

    def plan_for(self, settings: Settings) -> Plan:
        """What is looked for in files under these settings."""
        if settings not in self._plans:
            settings.verify(self.catalogue)
            codes = self.catalogue.resolve((settings.layer, self.options.layer))
            rules = [self.catalogue.by_code[code] for code in codes]
            triggers = {t for r in rules if r.flow and r.static for t in r.triggers or (b"",)}
            semantics = tuple(
                (key.replace("_", "-"), getattr(settings.semantics, key))
                for key in type(settings.semantics).__slots__
            )
            self._plans[settings] = Plan(codes, tuple(sorted(triggers)), semantics)
        return self._plans[settings]

    def targets(self) -> tuple[list[Target], list[Diagnostic], list[str]]:
        """The files to check, folders that cannot be listed, and names that do not exist."""
        if self.options.stdin is not None:
            return [self._stdin_target()], [], []
        walk = discover(self.options.paths, self.options.discovery)
        problems = [_unlistable(problem.path, problem.reason) for problem in walk.problems]
        return walk.targets, problems, walk.missing

    def _stdin_target(self) -> Target:
        name = self.options.stdin_name or STDIN
        path = os.path.normpath(os.path.join(self.options.cwd, name))
        settings = self.options.finder.settings_for(os.path.dirname(path))
        return Target(path, settings)

    def report(self) -> Report:
        """Check everything."""
        targets, problems, missing = self.targets()
        for target in targets:
            self.plan_for(target.settings)  # a bad configuration ends the run before it begins
        results = self._results(targets)
        diagnostics = self._finish(targets, results)
        diagnostics += [found for found in problems if self._is_wanted_folder(found)]
        diagnostics.sort(key=lambda found: found.sort_key)
        trouble = None
        if self._store:
            self._store.save()
            trouble = self._store.trouble
        diagnostics, sources = self._name_stdin(diagnostics)
        return Report(
            diagnostics,
            len(targets),
            missing,
            sorted(self._internal),
            sorted(self._notes),
            sources,
            trouble,
        )

    def _is_wanted_folder(self, found: Diagnostic) -> bool:
        settings = self.options.finder.settings_for(os.path.dirname(found.filename))
        return found.code in self.plan_for(settings).codes

    # One result a file.

    def _results(self, targets: list[Target]) -> dict[str, FileResult]:
        begun = time.time_ns()
        world = Neighbourhood(self.options.discovery)
        self._lend_listing(world, targets)
        results: dict[str, FileResult] = {}
        missed: list[tuple[str, Plan]] = []
        for target in targets:
            plan = self._plans[target.settings]
            book = self._store.book(plan) if self._store and not self._is_stdin else None
            kept = book.get(target.path, world) if book else None
            if kept is not None:
                results[target.path] = kept
            else:
                missed.append((target.path, plan))
        if missed:
            self._check(missed, targets, results, world, begun)
        return results

    def _check(
        self,
        missed: list[tuple[str, Plan]],
        targets: list[Target],
        results: dict[str, FileResult],
        world: Neighbourhood,
        begun: int,
    ) -> None:
        from trainlint.workers import Task, available_jobs, check_all

        if self._store:
            for path, _ in missed:
                world.state_of(path)  # as it is before anything is read
        tasks = [Task(path, plan, _size(path)) for path, plan in missed]
        plans = dict(missed)
        jobs = self.options.jobs or available_jobs()
        how = self.options.discovery._replace(finder=Finder())
        make_world = partial(Neighbourhood, how, world.listings)
        answers = check_all(tasks, make_world, jobs, self._given(targets))
        for answer in answers:
            if answer.result is None:
                self._internal.append(InternalError(answer.path, answer.error))
                continue
            results[answer.path] = answer.result
            if self._store and not self._is_stdin:
                book = self._store.book(plans[answer.path])
                book.put(answer.path, answer.result, begun, world)
            if self.options.progress:
                self.options.progress(len(results), len(targets))

    def _lend_listing(self, world: Neighbourhood, targets: list[Target]) -> None:
        """Where one whole project is checked, its files need not be listed twice."""
        how = self.options.discovery
        if len(self.options.paths) == 1 and targets and not (how.exclude or how.extend_exclude):
            root = os.path.normpath(os.path.join(self.options.cwd, self.options.paths[0]))
            own = targets[0].settings
            if os.path.isdir(root) and own == Settings(own.root, own.source):
                world.adopt(root, [target.path for target in targets])

    @property
    def _is_stdin(self) -> bool:
        return self.options.stdin is not None

    def _given(self, targets: list[Target]) -> dict[str, bytes] | None:
        data = self.options.stdin
        return None if data is None else {targets[0].path: data}

    # Passes over all diagnostics.

    def _finish(self, targets: list[Target], results: dict[str, FileResult]) -> list[Diagnostic]:
        """Select, merge what several files told of one, ignore and suppress."""
        settings = {target.path: target.settings for target in targets}
        by_file = self._merged(settings, results)
        ignores = _PerFileIgnores(self.catalogue)
        kept: list[Diagnostic] = []
        for target in targets:
            found = by_file.get(target.path, [])
            result = results.get(target.path, FileResult())
            self._notes += result.notes
            plan = self._plans[target.settings]
            if not (found or target.settings.per_file_ignores or "TL003" in plan.codes):
                continue
            found = ignores.apply(target, found)
            outcome = self._suppressed(target, found, result)
            kept += outcome
        return kept + self._unused_ignores(ignores)

    def _merged(
        self, settings: dict[str, Settings], results: dict[str, FileResult]
    ) -> dict[str, list[Diagnostic]]:
        """Diagnostics by the file that they lie in, each once, whoever's check found it."""
        best: dict[tuple[object, ...], tuple[object, Diagnostic]] = {}
        for path, result in results.items():
            for found in result.diagnostics:
                where = settings.get(found.filename)
                if where is None or found.code not in self._plans[where].codes:
                    continue
                key = (found.filename, found.cell, found.span, found.code, found.message)
                # The file's own account first, then the shortest: the same whatever the order.
                rank = (found.filename != path, len(found.related), path)
                if key not in best or rank < best[key][0]:  # type: ignore[operator]
                    best[key] = (rank, found)
        by_file: dict[str, list[Diagnostic]] = {}
        for _, found in best.values():
            by_file.setdefault(found.filename, []).append(found)
        for rows in by_file.values():
            rows.sort(key=lambda found: found.sort_key)
        return by_file

    def _suppressed(
        self, target: Target, found: list[Diagnostic], result: FileResult
    ) -> list[Diagnostic]:
        comments = result.suppressions
        if not comments and found and not result.digest:
            comments = self._comments(target.path)  # it was not parsed on its own account
        codes = self._plans[target.settings].codes
        outcome = suppress.apply(found, comments, self._code, codes.__contains__)
        if "TL003" not in codes or not result.parsed:
            return outcome.kept
        unused = [_unused(target.path, comment, problem) for comment, problem in outcome.unused]
        return outcome.kept + [
            one
            for one in unused
            if not _ignores_tl003(comments, self._code, one)
            and "TL003" not in _PerFileIgnores(self.catalogue).codes_for(target)
        ]

    def _comments(self, path: str) -> tuple[suppress.Suppression, ...]:
        try:
            return tuple(suppress.find(decode(read(path).data, path)))
        except (UnreadableSource, InvalidSource):
            return ()

    def _code(self, selector: str) -> str | None:
        rule = self.catalogue.find(selector) or self.catalogue.find(selector.upper())
        return rule.code if rule else None

    def _unused_ignores(self, ignores: _PerFileIgnores) -> list[Diagnostic]:
        found: list[Diagnostic] = []
        for settings in sorted(self._plans, key=lambda settings: settings.source or ""):
            codes = self._plans[settings].codes
            if "TL004" in codes and settings.source:
                found += ignores.unused(settings, codes)
        return found

    def _name_stdin(self, found: list[Diagnostic]) -> tuple[list[Diagnostic], dict[str, Source]]:
        """Standard input without a name is shown as `-`."""
        data = self.options.stdin
        if data is None:
            return found, {}
        path = self._stdin_target().path
        name = path if self.options.stdin_name else STDIN
        try:
            sources = {name: decode(data, path)}
        except (UnreadableSource, InvalidSource):
            sources = {name: Source(name, data.decode("utf-8", "replace"))}
        if name == path:
            return found, sources

        def renamed(one: Diagnostic) -> Diagnostic:
            related = tuple(
                Related(r.message, name if r.filename == path else r.filename, r.cell, r.span)
                for r in one.related
            )
            return replace(one, filename=name, related=related)

        return [renamed(one) if one.filename == path else one for one in found], sources


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _unlistable(path: str, reason: str) -> Diagnostic:
    start = Position(1, 1)
    problem = f"the folder cannot be read: {reason}"
    return Diagnostic("TL002", "unreadable-file", Severity.ERROR, problem, path, Span(start, start))


def _unused(path: str, comment: suppress.Suppression, problem: str) -> Diagnostic:
    return Diagnostic(
        "TL003",
        "unused-suppression",
        Severity.WARNING,
        problem,
        path,
        suppress.span_of(comment),
        comment.cell,
    )


def _ignores_tl003(
    comments: Iterable[suppress.Suppression],
    code_of: Callable[[str], str | None],
    found: Diagnostic,
) -> bool:
    """Whether a suppression names TL003 itself, for its line or its file."""
    return any(
        comment.cell == found.cell
        and (comment.reach is suppress.Reach.FILE or found.span.start.row == comment.row)
        and any(code_of(name) == "TL003" for name in comment.selectors or ())
        for comment in comments
    )


class _PerFileIgnores:
    """`per-file-ignores`, and which entries of it were of use."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._globs: dict[Settings, list[tuple[str, Globs, dict[str, frozenset[str]]]]] = {}
        self._used: set[tuple[Settings, str, str]] = set()

    def _entries(self, settings: Settings) -> list[tuple[str, Globs, dict[str, frozenset[str]]]]:
        if settings not in self._globs:
            self._globs[settings] = [
                (
                    glob,
                    Globs((glob,), settings.root),
                    {selector: self._catalogue.matches(selector) for selector in selectors},
                )
                for glob, selectors in settings.per_file_ignores
            ]
        return self._globs[settings]

    def codes_for(self, target: Target) -> frozenset[str]:
        """Everything that is ignored in a file."""
        return frozenset(
            code
            for _, globs, selectors in self._entries(target.settings)
            if globs.match(target.path)
            for codes in selectors.values()
            for code in codes
        )

    def apply(self, target: Target, found: list[Diagnostic]) -> list[Diagnostic]:
        """What is left, noting which entries took something away."""
        hidden: set[int] = set()
        for glob, globs, selectors in self._entries(target.settings):
            if not globs.match(target.path):
                continue
            for selector, codes in selectors.items():
                hits = {at for at, one in enumerate(found) if one.code in codes}
                if hits:
                    self._used.add((target.settings, glob, selector))
                    hidden |= hits
        return [one for at, one in enumerate(found) if at not in hidden]

    def unused(self, settings: Settings, selected: frozenset[str]) -> Iterable[Diagnostic]:
        """A TL004 for each entry that did nothing, at its line in the configuration."""
        for glob, _, selectors in self._entries(settings):
            idle = [
                selector
                for selector, codes in selectors.items()
                if codes & (selected - {"TL003", "TL004"})
                and (settings, glob, selector) not in self._used
            ]
            if idle and settings.source:
                names = ", ".join(f"`{selector}`" for selector in idle)
                problem = f'`per-file-ignores` for "{glob}": {names} ignores nothing'
                span = _span_in(settings.source, glob)
                yield Diagnostic(
                    "TL004",
                    "unused-per-file-ignore",
                    Severity.WARNING,
                    problem,
                    settings.source,
                    span,
                )


def _span_in(path: str, glob: str) -> Span:
    """Where a configuration file writes a glob."""
    try:
        lines = read(path).data.decode("utf-8", "replace").splitlines()
    except UnreadableSource:
        lines = []
    for row, line in enumerate(lines, 1):
        for quoted in (f'"{glob}"', f"'{glob}'"):
            at = line.find(quoted)
            if at >= 0:
                return Span(Position(row, at + 1), Position(row, at + 1 + len(quoted)))
    return Span(Position(1, 1), Position(1, 1))
