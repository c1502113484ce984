"""What a file's text shows without being parsed: its words, and what its functions mention.

Whether a file is worth parsing can mostly be told by it, at a fiftieth of the price. It shows too
much rather than too little: indentation alone tells what belongs to what.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from itertools import zip_longest
from sys import intern

from trainlint.flow.ir import Sketch
from trainlint.syntax.words import WORD, code_of

_DEFINED = re.compile(r"^([ \t]*)(?:async[ \t]+)?(def|class)[ \t]+(\w+)", re.MULTILINE)
_ASSIGNED = re.compile(
    r"^(\w+(?:[ \t]*,[ \t]*\w+)*)(?:\[[^\]\n]*\])?[ \t]*(?::[^=\n]*)?=(?!=)"
    r"([^\n]*(?:\n[ \t)\]}][^\n]*)*)",
    re.MULTILINE,
)
_DECORATES = re.compile(r"@[ \t]*(\w+)")
_FROM = re.compile(
    r"(?:^|[:;])[ \t]*from(?:[ \t]+|(?=\.))([.\w]+?)(?:[ \t]+|(?<=\.))import\b[ \t]*"
    r"(?:\(([^)]*)\)|([^\n;]*))",
    re.MULTILINE,
)
_IMPORT = re.compile(r"(?:^|[:;])[ \t]*import[ \t]+([^\n;]*)", re.MULTILINE)
_AS = re.compile(r"\s+as\s+")
_ALL = re.compile(r"^__all__\s*=\s*[\[(]([^\])]*)[\])][ \t]*$", re.MULTILINE)
_QUOTED = re.compile(r"""["'](\w+)["']""")


def sketch(text: str, vocabulary: Set[str], implicit: Set[str]) -> Sketch:
    """The sketch of a file.

    Of a function's words only those of the vocabulary and the file's own names are kept. A class
    mentions what those of its methods do that are `implicit`: they run where it alone is named.
    """
    code = code_of(text)
    words = frozenset(map(intern, WORD.findall(code)))
    imports = dict(_imports(code))
    definitions: dict[str, frozenset[str]] = {}
    methods: dict[str, frozenset[str]] = {}
    starts = list(_DEFINED.finditer(code))
    assigned = dict(_assigned(code))
    wanted = words & (vocabulary | imports.keys() | assigned.keys() | {s[3] for s in starts})
    for name, values in assigned.items():
        definitions[name] = wanted.intersection(WORD.findall(values))
    open_: list[re.Match[str]] = []
    for start, following in zip_longest(starts, starts[1:]):
        while open_ and len(open_[-1][1]) >= len(start[1]):
            open_.pop()
        open_.append(start)
        end = following.start() if following else len(code)
        mentioned = wanted.intersection(WORD.findall(code, start.end(), end))
        first, *inner = open_
        for function in inner:
            if function[2] == "def":
                methods[function[3]] = methods.get(function[3], frozenset()) | mentioned
        if first[2] == "def" or not inner or inner[0][3] in implicit:
            definitions[first[3]] = definitions.get(first[3], frozenset()) | mentioned
    has_star = any(name == "*" for _, name in imports.values())
    return Sketch(words, methods, definitions, imports, has_star, _exported(text, code))


def _imports(code: str) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """By the name that it is bound to: the module, and the name in it."""
    for module, inside, plain in _FROM.findall(code):
        for part in (inside or plain).split(","):
            name, bound = _renamed(part.strip(" \t\n()"))
            if name:
                yield bound or name, (intern(module), name)
    for parts in _IMPORT.findall(code):
        for part in parts.split(","):
            module, bound = _renamed(part.strip())
            if bound:
                yield bound, (module, None)
            elif module:
                root = intern(module.split(".")[0])
                yield root, (root, None)


def _renamed(part: str) -> tuple[str, str]:
    """What is imported, and what it is called instead, if anything."""
    name, *bound = _AS.split(part, maxsplit=1)
    return intern(name.strip()), intern(bound[0].strip() if bound else "")


def _assigned(code: str) -> Iterator[tuple[str, str]]:
    """Variables of the file by name, and what is assigned to them.

    Not those that decorate: what such a registry gives is defined elsewhere.
    """
    values: dict[str, str] = {}
    for names, value in _ASSIGNED.findall(code):
        for name in names.split(","):
            values[intern(name.strip())] = f"{values.get(name.strip(), '')} {value}"
    others = {"__all__", *_DECORATES.findall(code)}
    return ((name, value) for name, value in values.items() if name not in others)


def _exported(text: str, code: str) -> frozenset[str] | None:
    lists = _ALL.findall(text)
    if len(lists) != 1 or code.count("__all__") != 1:
        return None
    return frozenset(map(intern, _QUOTED.findall(lists[0])))
