"""What a file's text shows without being parsed: its words, and what its methods mention.

Whether a file is worth parsing can mostly be told by it, at a fiftieth of the price. It shows too
much rather than too little: a nested function counts as a method, and a method's words go on to
the next `def`.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from sys import intern

from trainlint.flow.ir import Sketch

_TEXT = re.compile(
    r"""(?<![\w'"])[rRbBuU]{0,2}(?:'''[^\\]*?(?:\\.[^\\]*?)*?'''|\"\"\"[^\\]*?(?:\\.[^\\]*?)*?\"\"\"
    |'[^'\\\n]*(?:\\.[^'\\\n]*)*'|"[^"\\\n]*(?:\\.[^"\\\n]*)*")|\#[^\n]*""",
    re.DOTALL | re.VERBOSE,
)
"""Strings that hold no code, and comments."""
_WORD = re.compile(r"[^\W\d]\w*")
_METHOD = re.compile(r"^[ \t]+(?:async[ \t]+)?def[ \t]+(\w+)", re.MULTILINE)
_ALL = re.compile(r"^__all__\s*=\s*[\[(]([^\])]*)[\])][ \t]*$", re.MULTILINE)
_QUOTED = re.compile(r"""["'](\w+)["']""")
_STAR = re.compile(r"\bimport[ \t]*\(?[ \t]*\*")


def sketch(text: str, vocabulary: frozenset[str]) -> Sketch:
    """The sketch of a file; of the methods' words only the vocabulary's and its own methods'."""
    code = _TEXT.sub(" ", text)
    starts = list(_METHOD.finditer(code))
    wanted = vocabulary | {start[1] for start in starts}
    methods: dict[str, frozenset[str]] = {}
    for start, following in zip_longest(starts, starts[1:]):
        end = following.start() if following else len(code)
        mentioned = wanted.intersection(_WORD.findall(code, start.end(), end))
        name = intern(start[1])
        methods[name] = methods.get(name, frozenset()) | frozenset(map(intern, mentioned))
    words = frozenset(map(intern, _WORD.findall(code)))
    return Sketch(words, methods, bool(_STAR.search(code)), _exported(text, code))


def _exported(text: str, code: str) -> frozenset[str] | None:
    lists = _ALL.findall(text)
    if len(lists) != 1 or code.count("__all__") != 1:
        return None
    return frozenset(map(intern, _QUOTED.findall(lists[0])))
