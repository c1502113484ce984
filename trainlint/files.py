"""The file system: which files are checked, and which file a module name means."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from trainlint.config import ConfigError, Finder, Settings
from trainlint.core.digest import blake2b
from trainlint.syntax.source import Stamp, UnreadableSource, read

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

SUFFIXES = (".py", ".pyi", ".ipynb")


class Target(NamedTuple):
    """A file to check, under the settings that hold for it."""

    path: str
    settings: Settings


class Problem(NamedTuple):
    """A folder that could not be listed."""

    path: str
    reason: str


class Walk(NamedTuple):
    """What discovery found."""

    targets: list[Target]
    problems: list[Problem]
    missing: list[str]
    """Named paths that do not exist."""


class Discovery(NamedTuple):
    """How to look for files."""

    finder: Finder
    exclude: tuple[str, ...] | None = None
    """Replaces the configured patterns; relative to the working directory."""
    extend_exclude: tuple[str, ...] = ()
    force_exclude: bool = False
    respect_gitignore: bool = True
    cwd: str = ""


def discover(paths: Sequence[str], how: Discovery) -> Walk:
    """The files below the named paths, each once, sorted by path."""
    found: dict[str, Target] = {}
    walk = Walk([], [], [])
    for name in paths:
        path = os.path.normpath(os.path.join(how.cwd, name))
        if not os.path.lexists(path):
            walk.missing.append(name)
            continue
        folder = os.path.isdir(path)
        settings = how.finder.settings_for(path if folder else os.path.dirname(path))
        if how.force_exclude and _is_excluded_by_force(path, settings, how):
            continue
        targets = _below(path, settings, how, walk.problems) if folder else [Target(path, settings)]
        for target in targets:
            found.setdefault(target.path, target)
    walk.targets.extend(found[path] for path in sorted(found))
    return walk


def _is_excluded_by_force(path: str, settings: Settings, how: Discovery) -> bool:
    """Whether a named path, or a folder above it within the project, is excluded."""
    excludes = _excludes(settings, how)
    top = settings.root if _is_below(path, settings.root) else how.cwd
    while True:
        if excludes.match(path):
            return True
        parent = os.path.dirname(path)
        if parent in (path, top) or not _is_below(parent, top):
            return False
        path = parent


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


class _TooLarge(Exception):
    """A folder holds more than anybody wants to wait for."""


def _below(
    root: str,
    settings: Settings,
    how: Discovery,
    problems: list[Problem],
    most: float = math.inf,
) -> Iterator[Target]:
    """Every file to check below a folder. Links to folders are not followed, so loops cannot be.

    Raises `_TooLarge` when the folders hold more than `most` entries of any kind.
    """
    ignores = _outer_ignores(root) if how.respect_gitignore else ()
    stack: list[tuple[str, Settings, tuple[Ignore, ...]]] = [(root, settings, ignores)]
    while stack:
        folder, settings, ignores = stack.pop()
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError as error:
            problems.append(Problem(folder, (error.strerror or "cannot be listed").lower()))
            continue
        most -= len(entries)
        if most < 0:
            raise _TooLarge
        names = {entry.name for entry in entries}
        if folder != root and not names.isdisjoint(("trainlint.toml", "pyproject.toml")):
            settings = how.finder.settings_for(folder)
        if how.respect_gitignore and ".gitignore" in names:
            ignores = (*ignores, *_read_ignore(os.path.join(folder, ".gitignore"), folder))
        excludes = _excludes(settings, how)
        for entry in entries:
            is_folder = _is_folder(entry)
            if not is_folder and not entry.name.endswith(SUFFIXES):
                continue
            path = entry.path
            if excludes.match(path) or (ignores and _is_ignored(path, is_folder, ignores)):
                continue
            if is_folder:
                stack.append((path, settings, ignores))
            elif _is_file(entry):
                yield Target(path, settings)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file or a link to one: pipes, sockets and dead links are passed over."""
    try:
        return entry.is_file()
    except OSError:
        return False


# --- globs ---------------------------------------------------------------------------------

_PLAIN_NAME = re.compile(r"[\w.-]+")


class Globs:
    """Patterns as in ruff: against the name, or against the path below `root`.

    Most of them, and all of the default ones, are plain names, which need no regular expression.
    """

    def __init__(self, patterns: Sequence[str], root: str) -> None:
        self._names = frozenset(p for p in patterns if _PLAIN_NAME.fullmatch(p))
        parts = [_translate(p, root) for p in patterns if p and p not in self._names]
        self._matches = re.compile("|".join(parts)).match if parts else None

    def match(self, path: str) -> bool:
        """Whether any pattern matches an absolute path."""
        return path.rpartition(os.sep)[2] in self._names or (
            self._matches is not None and self._matches(path) is not None
        )


def _translate(pattern: str, root: str) -> str:
    """A regular expression over absolute paths; `*` also crosses folders, as in ruff."""
    pattern = pattern.replace("/", os.sep).rstrip(os.sep)
    if os.sep in pattern:
        return rf"(?:{_glob(os.path.normpath(os.path.join(root, pattern)), root)})\Z"
    return rf"(?:.*{re.escape(os.sep)})?{_glob(pattern)}\Z"


@lru_cache(maxsize=1_000)
def _glob(pattern: str, literal_prefix: str = "") -> str:
    out = []
    index = 0
    if literal_prefix and pattern.startswith(literal_prefix):
        out.append(re.escape(literal_prefix))
        index = len(literal_prefix)
    while index < len(pattern):
        letter = pattern[index]
        index += 1
        if letter == "*":
            while pattern[index : index + 1] == "*":
                index += 1
            if pattern[index : index + 1] == os.sep and pattern[index - 2 : index] == "**":
                index += 1
                out.append(rf"(?:.*{re.escape(os.sep)})?")
            else:
                out.append("(?s:.*)")
        elif letter == "?":
            out.append("(?s:.)")
        elif letter == "[" and "]" in pattern[index + 1 :]:
            end = pattern.index("]", index + 1)
            body = pattern[index:end].replace("\\", r"\\")
            out.append(f"[{'^' + body[1:] if body[0] in '!^' else body}]")
            index = end + 1
        else:
            out.append(re.escape(letter))
    return "".join(out)


def _excludes(settings: Settings, how: Discovery) -> Globs:
    return _excludes_for(
        settings.root, settings.exclude, settings.extend_exclude, how[1], how[2], how.cwd
    )


@lru_cache(maxsize=256)
def _excludes_for(
    root: str,
    exclude: tuple[str, ...],
    extend: tuple[str, ...],
    named: tuple[str, ...] | None,
    named_extend: tuple[str, ...],
    cwd: str,
) -> Globs:
    configured = Globs((*(() if named is not None else exclude), *extend), root)
    flags = (*(named or ()), *named_extend)
    return _Either(configured, Globs(flags, cwd)) if flags else configured


class _Either(Globs):
    """Patterns of the configuration and of the command line, which have roots of their own."""

    def __init__(self, one: Globs, other: Globs) -> None:
        self._one, self._other = one, other

    def match(self, path: str) -> bool:
        return self._one.match(path) or self._other.match(path)


# --- .gitignore ----------------------------------------------------------------------------


class Ignore(NamedTuple):
    """One ignore file's patterns, relative to `folder`."""

    folder: str
    spec: GitIgnoreSpec


def _read_ignore(path: str, folder: str) -> list[Ignore]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except (OSError, ValueError):
        return []
    if not any(line.strip() and not line.startswith("#") for line in lines):
        return []
    from pathspec import GitIgnoreSpec

    try:
        return [Ignore(folder, GitIgnoreSpec.from_lines(lines))]
    except ValueError:  # one bad pattern: git skips it, so take the others
        good = [line for line in lines if _is_pattern(line)]
        return [Ignore(folder, GitIgnoreSpec.from_lines(good))]


def _is_pattern(line: str) -> bool:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True


def _outer_ignores(root: str) -> tuple[Ignore, ...]:
    """The ignore files above a folder, up to the repository's root.

    Those that ignore the folder itself do not count: the user asked for it.
    """
    found: list[Ignore] = []
    folder = root
    while True:
        if os.path.lexists(os.path.join(folder, ".git")):
            found += _read_ignore(os.path.join(folder, ".git", "info", "exclude"), folder)
            break
        parent = os.path.dirname(folder)
        if parent == folder:
            return ()
        folder = parent
        found += _read_ignore(os.path.join(folder, ".gitignore"), folder)
    found.reverse()
    return tuple(i for i in found if root == i.folder or not _is_ignored(root, True, (i,)))


def _is_ignored(path: str, is_folder: bool, ignores: tuple[Ignore, ...]) -> bool:
    """Whether git would ignore it: the innermost file that says anything decides."""
    for ignore in reversed(ignores):
        relative = (
            os.path.relpath(path, ignore.folder)
            if os.sep != "/"
            else path[len(ignore.folder.rstrip("/")) + 1 :]
        )
        said = ignore.spec.check_file(relative + "/" if is_folder else relative).include
        if said is not None:
            return said
    return False


# --- module names --------------------------------------------------------------------------

_PROJECT_MARKS = ("pyproject.toml", ".git", "setup.py", "setup.cfg", "trainlint.toml")
_LIBRARY_FOLDERS = ("site-packages", "dist-packages")


class Resolver:
    """Which file of the project a module name means, as seen from another file.

    Only listings are read. A name is looked for in the file's own folder, above its package, in
    the project's root and in its `src`. Installed packages do not belong to the project, except
    the one that the file itself is part of.
    """

    def __init__(self) -> None:
        self._listings: dict[str, frozenset[str]] = {}
        self._roots: dict[str, tuple[str, ...]] = {}

    def find(self, dotted: str, from_path: str) -> str | None:
        """The file for `a.b`, or for `.b` and `..b` relative to `from_path`'s package."""
        folder = os.path.dirname(from_path)
        if dotted.startswith("."):
            name = dotted.lstrip(".")
            for _ in range(len(dotted) - len(name) - 1):
                folder = os.path.dirname(folder)
            return self._file(folder, name.split(".") if name else [])
        parts = dotted.split(".")
        for root in self._roots_for(folder):
            if os.path.basename(root) in _LIBRARY_FOLDERS and not _is_below(
                folder, os.path.join(root, parts[0])
            ):
                continue
            found = self._file(root, parts)
            if found is not None:
                return found
        return None

    def project_root(self, path: str) -> str:
        """The folder that holds the whole project of a file: of an installed one, its package."""
        root = self._roots_for(os.path.dirname(path))[-1]
        if os.path.basename(root) in _LIBRARY_FOLDERS:
            package = path[len(root) + 1 :].split(os.sep, 1)[0]
            return os.path.join(root, package) if not package.endswith(".py") else root
        return root

    def _file(self, folder: str, parts: list[str]) -> str | None:
        for part in parts[:-1]:
            if part not in self._listing(folder):
                return None
            folder = os.path.join(folder, part)
        if parts:
            last = parts[-1]
            names = self._listing(folder)
            inner = os.path.join(folder, last)
            if last in names and "__init__.py" in self._listing(inner):
                return os.path.join(inner, "__init__.py")
            return os.path.join(folder, f"{last}.py") if f"{last}.py" in names else None
        has_init = "__init__.py" in self._listing(folder)
        return os.path.join(folder, "__init__.py") if has_init else None

    def _listing(self, folder: str) -> frozenset[str]:
        names = self._listings.get(folder)
        if names is None:
            try:
                names = frozenset(os.listdir(folder))
            except OSError:
                names = frozenset()
            self._listings[folder] = names
        return names

    def _roots_for(self, folder: str) -> tuple[str, ...]:
        """The folders in which absolute names are looked for; the project's root is the last."""
        roots = self._roots.get(folder)
        if roots is None:
            package_parent = folder
            while "__init__.py" in self._listing(package_parent):
                parent = os.path.dirname(package_parent)
                if parent == package_parent:
                    break
                package_parent = parent
            candidates = [package_parent] if package_parent != folder else [folder]
            if package_parent != folder:
                candidates.append(folder)  # a script inside a package, run by its path
            project = self._project(package_parent)
            candidates += [os.path.join(project, "src"), project]
            roots = tuple(dict.fromkeys(reversed(candidates)))[::-1]
            self._roots[folder] = roots
        return roots

    def _project(self, folder: str) -> str:
        """The nearest folder upwards that looks like a project; else the folder itself."""
        at = folder
        while not any(mark in self._listing(at) for mark in _PROJECT_MARKS):
            parent = os.path.dirname(at)
            if parent == at or os.path.basename(at) in _LIBRARY_FOLDERS:
                return folder
            at = parent
        return at


# --- who mentions whom ---------------------------------------------------------------------

SETTLED = 2_000_000_000
"""Nanoseconds after which a file system's clock surely shows another time."""

_MAX_LISTED = 50_000
"""Entries of a project's folders; a home directory full of data is not walked to its end."""
_MAX_INDEXED_FILES = 5000
_MAX_INDEXED_BYTES = 100_000_000
_IMPORT = re.compile(rb"import\b[ \t]*(?:\(([^)]*)\)|([^\n#;(]*))")
_WORD = re.compile(rb"\w+")
_NO_NAME = bytes(
    byte if byte > 127 or chr(byte).isalnum() or byte == ord("_") else ord(" ")
    for byte in range(256)
)
"""Leaves of a file's bytes those that names are made of."""
_USED = re.compile(rb"(?<!\bclass )\b([\w\x80-\xff]+)[ \t]*(?:[(.]|\bas\b)")


class _Importers(NamedTuple):
    """Which files of a project import what: by each single name in an import statement."""

    files: dict[bytes, list[str]]
    complete: bool


_UNTOLD = _Importers({}, complete=False)


class _Forgiving(Finder):
    """For folders that nobody asked to check: a broken configuration there counts as none."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    def settings_for(self, folder: str) -> Settings:
        try:
            return self._finder.settings_for(folder)
        except ConfigError:
            parent = os.path.dirname(folder)
            return self.settings_for(parent) if parent != folder else Settings(folder)


def _listed(names: Iterable[bytes]) -> bytes:
    """Names with spaces around each.

    They are kept for each file of a project, and a set takes five times as much room.
    """
    return b" %b " % b" ".join(set(names))


Listings: TypeAlias = dict[str, list[str] | None]
"""The files of projects by their roots; None where there is too much to look through."""


class Neighbourhood:
    """What a check may ask about the rest of the project."""

    def __init__(self, how: Discovery | None = None, listings: Listings | None = None) -> None:
        """`listings` are those of another neighbourhood, so that nobody need walk twice."""
        self._how = how or Discovery(Finder())
        self._resolver = Resolver()
        self._files: Listings = dict(listings or {})
        self._importers: dict[str, _Importers] = {}
        self._names: dict[str, bytes] = {}
        self._used: dict[str, bytes] = {}
        self._states: dict[str, str] = {}
        self._state_roots: dict[str, str] = {}
        self._stamps: dict[str, Stamp | None] = {}

    def find(self, dotted: str, from_path: str) -> str | None:
        """The project's file for a module name."""
        return self._resolver.find(dotted, from_path)

    def mentioned_elsewhere(self, name: str, path: str) -> bool:
        """Whether a file that imports `path`'s module calls the name, itself or by another's.

        Standing in `__all__`, in a registry or as a base class is no call. Imports are recognised
        by the module's own name, whatever stands before it, so that more files count than really
        import it. True also where the project is too large to tell.
        """
        root = self._resolver.project_root(path)
        if root not in self._importers:
            files = self._project_files(root)
            self._importers[root] = _UNTOLD if files is None else _importers(files)
        importers = self._importers[root]
        if not importers.complete:
            return True
        word = name.encode("utf-8", "replace")
        entry = b" %b " % word
        mentioning = [
            file
            for file in importers.files.get(_module_name(path), ())
            if file != path and entry in self._names_in(file)
        ]
        by_name = importers.files.get(word, ()) if mentioning else ()
        return any(entry in self._used_in(f) for f in (*mentioning, *by_name) if f != path)

    def _names_in(self, path: str) -> bytes:
        """All names in a file."""
        if path not in self._names:
            self._names[path] = _listed(_bytes_of(path).translate(_NO_NAME).split())
        return self._names[path]

    def _used_in(self, path: str) -> bytes:
        """The names that a file calls or looks into."""
        if path not in self._used:
            self._used[path] = _listed(_USED.findall(_bytes_of(path)))
        return self._used[path]

    def stamp(self, path: str) -> Stamp | None:
        """A file's stamp at the first time of asking; None if there is no such file."""
        if path not in self._stamps:
            try:
                self._stamps[path] = Stamp.of(os.stat(path))
            except (OSError, ValueError):
                self._stamps[path] = None
        return self._stamps[path]

    def state_of(self, path: str) -> str:
        """A digest of the names, sizes and times of all files and folders of a file's project.

        Where it is the same, so is every answer about other files. Empty, which is never the
        same, where a change is so fresh that another could hide behind the same time, and where
        there are too many of them.
        """
        folder = os.path.dirname(path)
        root = self._state_roots.get(folder)
        if root is None:
            root = self._state_roots[folder] = self._resolver.project_root(path)
        if root not in self._states:
            self._states[root] = self._state(root)
        return self._states[root]

    def _state(self, root: str) -> str:
        files = self._project_files(root)
        if files is None:
            return ""
        folders = sorted({os.path.dirname(file) for file in files})
        stamps = [(path, self.stamp(path)) for path in (*files, *folders)]
        newest = max((max(s.mtime, s.ctime) for _, s in stamps if s), default=0)
        if newest + SETTLED > time.time_ns():
            return ""
        return blake2b(repr(stamps).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

    def adopt(self, root: str, files: list[str]) -> None:
        """Take discovery's listing of a folder, if it is that of a whole project."""
        if files and self._resolver.project_root(files[0]) == root:
            self._files[root] = files

    @property
    def listings(self) -> Listings:
        """Of all projects that it has walked so far."""
        return self._files.copy()

    def _project_files(self, root: str) -> list[str] | None:
        """All files that may belong to a project; None if there is too much to look through."""
        if root not in self._files:
            how = self._how._replace(finder=_Forgiving(self._how.finder))
            found = (target.path for target in _below(root, Settings(root), how, [], _MAX_LISTED))
            try:
                self._files[root] = sorted(found)
            except _TooLarge:
                self._files[root] = None
        return self._files[root]


def _imported(data: bytes) -> set[bytes]:
    """Each single name in the import statements of a file."""
    found: set[bytes] = set()
    for statement in _IMPORT.finditer(data):
        before = data[data.rfind(b"\n", 0, statement.start()) + 1 : statement.start()]
        _, origin, module = before.rpartition(b"from")
        found.update(_WORD.findall(statement[1] or statement[2] or b""))
        if origin:
            found.update(_WORD.findall(module))
    return found


def _bytes_of(path: str) -> bytes:
    try:
        return read(path).data
    except UnreadableSource:
        return b""


def _module_name(path: str) -> bytes:
    """The last part of a file's dotted name."""
    folder, name = os.path.split(path)
    stem = os.path.basename(folder) if name == "__init__.py" else os.path.splitext(name)[0]
    return stem.encode("utf-8", "replace")


def _importers(files: list[str]) -> _Importers:
    names: dict[bytes, list[str]] = {}
    budget = _MAX_INDEXED_BYTES
    if len(files) > _MAX_INDEXED_FILES:
        return _Importers(names, complete=False)
    for path in files:
        try:
            data = read(path).data
        except UnreadableSource:
            continue
        budget -= len(data)
        if budget < 0:
            return _Importers(names, complete=False)
        for word in _imported(data):
            names.setdefault(word, []).append(path)
    return _Importers(names, complete=True)
