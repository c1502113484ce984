"""The patterns of one `.gitignore`, as git reads them.

Every run that looks at its project asks about all of the project's files, a run whose results are
all cached too. So the patterns of a file are taken together: names without wildcards are looked up,
and all other patterns are one expression for names and one for paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class _Rule(NamedTuple):
    """A pattern; `kept` if it begins with `!`."""

    glob: str
    kept: bool
    folders_only: bool
    by_name: bool
    """It holds no slash, so that it speaks of names, wherever they are."""


class GitIgnore:
    """What one file's patterns say of paths below its folder; the last one that fits decides."""

    def __init__(self, lines: Iterable[str]) -> None:
        rules = [rule for line in lines if (rule := _rule(line))]
        self._kept = [rule.kept for rule in rules]
        self._plain: dict[str, int] = {}
        names: list[tuple[int, str]] = []
        paths: list[tuple[int, str]] = []
        for number, rule in enumerate(rules):
            if rule.by_name and not _WILD.search(rule.glob):
                self._plain[rule.glob + "/"] = number
                if not rule.folders_only:
                    self._plain[rule.glob] = number
            elif (regex := _regex(rule.glob)) is not None:
                end = _FOLDER if rule.folders_only else _ANY
                (names if rule.by_name else paths).append((number, regex + end))
        self._names, self._paths = _Alternatives(names), _Alternatives(paths)

    def __bool__(self) -> bool:
        return bool(self._kept)

    def ignores(self, path: str, is_folder: bool) -> bool | None:
        """Whether a path relative to the folder is ignored; None if no pattern fits.

        The folders above it are not looked at: what lies in an ignored one is ignored.
        """
        name = path[path.rfind("/") + 1 :]
        if is_folder:
            path, name = path + "/", name + "/"
        plain = self._plain.get(name, -1)
        last = max(plain, self._names.last(name), self._paths.last(path))
        return None if last < 0 else not self._kept[last]


class _Alternatives:
    """Numbered expressions, of which the one with the highest number is wanted that matches."""

    def __init__(self, numbered: Sequence[tuple[int, str]]) -> None:
        self._numbers = [number for number, _ in reversed(numbered)]
        either = "|".join(f"({regex})" for _, regex in reversed(numbered))
        self._match = re.compile(rf"(?:{either})\Z", re.DOTALL).match if numbered else None

    def last(self, text: str) -> int:
        """The highest number of those that match all of the text, or -1."""
        if self._match is None or (found := self._match(text)) is None or found.lastindex is None:
            return -1
        return self._numbers[found.lastindex - 1]


_FOLDER, _ANY = "(?<!/)/", "(?<!/)/?"
"""A folder's name ends in a slash here, which is not one that `folder/*` could match."""
_WILD = re.compile(r"[*?\[\\]")
_UP_TO_TRAILING_SPACES = re.compile(r"((?:[^\\ ]|\\.| +(?=[^ ]))*) *")


def _rule(line: str) -> _Rule | None:
    if line.startswith("#"):
        return None
    found = _UP_TO_TRAILING_SPACES.fullmatch(line)
    glob = found[1] if found else line
    kept = glob.startswith("!")
    glob = glob[kept:]
    folders_only = glob.endswith("/")
    glob = glob[:-1] if folders_only else glob
    return _Rule(glob.removeprefix("/"), kept, folders_only, "/" not in glob) if glob else None


# --- globs ---------------------------------------------------------------------------------


def _regex(glob: str) -> str | None:
    """The regular expression without groups that stands for a glob; None if nothing can match."""
    try:
        return "".join(_parts(glob))
    except _Malformed:
        return None


class _Malformed(Exception):
    """A bracket that is never closed, a backslash before nothing."""


def _parts(glob: str) -> Iterator[str]:
    at = 0
    while at < len(glob):
        letter = glob[at]
        if letter == "*":
            begin, at = at, _after_stars(glob, at)
            whole = at - begin > 1 and glob[begin - 1 : begin] in ("", "/")
            if whole and at == len(glob):
                yield ".*"
            elif whole and glob[at] == "/":
                at += 1
                yield "(?:.*/)?"
            else:
                yield "[^/]*"
        elif letter == "[":
            at, regex = _bracket(glob, at + 1)
            yield regex
        elif letter == "?":
            at += 1
            yield "[^/]"
        else:
            at, literal = _literal(glob, at)
            yield re.escape(literal)


def _after_stars(glob: str, at: int) -> int:
    while glob[at : at + 1] == "*":
        at += 1
    return at


def _literal(glob: str, at: int) -> tuple[int, str]:
    """The position after a letter that may be escaped, and the letter."""
    at += glob[at : at + 1] == "\\"
    if at >= len(glob):
        raise _Malformed
    return at + 1, glob[at]


_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r" \t-\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


def _bracket(glob: str, at: int) -> tuple[int, str]:
    """The position after `[...]`, and its regular expression; a slash never matches."""
    negated = glob[at : at + 1] in ("!", "^")
    at += negated
    inside = []
    first = at
    while glob[at : at + 1] != "]" or at == first:
        end = glob.find("]", at)
        if glob.startswith("[:", at) and end > at + 2 and glob[end - 1] == ":":
            at, name = end + 1, glob[at + 2 : end - 1]
            if name not in _CLASSES:
                raise _Malformed
            inside.append(_CLASSES[name])
            continue
        at, low = _literal(glob, at)
        high = low
        if glob[at : at + 1] == "-" and glob[at + 1 : at + 2] not in ("", "]"):
            at, high = _literal(glob, at + 1)
        inside.append(re.escape(low) if high <= low else f"{re.escape(low)}-{re.escape(high)}")
    return at + 1, f"(?!/)[{'^' if negated else ''}{''.join(inside)}]"
