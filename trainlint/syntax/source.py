"""Bytes to text: files, encodings and notebooks, and what can be wrong with each.

Only the standard library, because the warm path reads source to draw frames.
"""

from __future__ import annotations

import os
import re
import stat
from bisect import bisect_right
from itertools import accumulate
from typing import Any, NamedTuple

from trainlint.core import late

MAX_FILE_BYTES = 16_000_000
"""A larger file is not read. The time of a parse is bounded by tokens (see `guard`); this only
keeps a data file with the wrong suffix out of memory."""

MAX_NOTEBOOK_BYTES = 256_000_000
"""Notebooks carry their outputs, of which nothing is kept."""


class UnreadableSource(Exception):
    """Cannot be read or decoded: TL002."""

    def __init__(self, problem: str, row: int = 1, column: int = 1) -> None:
        super().__init__(problem)
        self.problem = problem
        self.row = row
        self.column = column


class InvalidSource(Exception):
    """Is no Python: TL001. Rows and columns count in the joined text."""

    def __init__(self, problem: str, row: int = 1, column: int = 1) -> None:
        super().__init__(problem)
        self.problem = problem
        self.row = row
        self.column = column


class Stamp(NamedTuple):
    """What `stat` tells of a file's content; ctime cannot be set by a program."""

    size: int
    mtime: int
    ctime: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """The stamp in a stat result."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class Reading(NamedTuple):
    """A file's bytes and the stamp of exactly these bytes."""

    data: bytes
    stamp: Stamp


_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a named pipe must not block the run
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)


def is_notebook(path: str) -> bool:
    """Whether a path is read as a notebook."""
    return path.endswith(".ipynb")


def read(path: str) -> Reading:
    """A file's bytes, in four system calls."""
    try:
        handle = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        raise UnreadableSource(f"cannot be read: {_reason(error)}") from None
    except ValueError:
        raise UnreadableSource("cannot be read: the name holds a null byte") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableSource(f"cannot be read: it is {_kind(status.st_mode)}")
        limit = MAX_NOTEBOOK_BYTES if is_notebook(path) else MAX_FILE_BYTES
        if status.st_size > limit:
            raise too_large(status.st_size, limit)
        data = os.read(handle, status.st_size + 1)
        while len(data) < status.st_size:  # a short read, or the file shrank
            more = os.read(handle, status.st_size - len(data))
            if not more:
                break
            data += more
        return Reading(data, Stamp.of(status))
    except OSError as error:
        raise UnreadableSource(f"cannot be read: {_reason(error)}") from None
    finally:
        os.close(handle)


def too_large(size: int, limit: int) -> UnreadableSource:
    """The error for a file of `size` bytes."""
    return UnreadableSource(f"is too large: {size:,} bytes, the limit is {limit:,}")


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


class Source:
    """A file's Python text and, for a notebook, where its cells begin.

    `text` is what is parsed: line ends are kept, and a notebook's magics are replaced by
    statements that do nothing, on the same lines. `shown` is what the user wrote.
    """

    __slots__ = ("_starts", "path", "shown", "text")

    def __init__(
        self,
        path: str,
        text: str,
        starts: tuple[int, ...] | None = None,
        shown: str | None = None,
    ) -> None:
        self.path = path
        self.text = text
        self.shown = text if shown is None else shown
        self._starts = starts

    @property
    def is_notebook(self) -> bool:
        """Whether the text is joined from cells."""
        return self._starts is not None

    @property
    def cell_starts(self) -> tuple[int, ...]:
        """The row in the joined text at which each code cell begins; empty outside notebooks."""
        return self._starts or ()

    def locate(self, row: int, column: int) -> tuple[int | None, int, int]:
        """Cell, row within the cell and column of a position in the joined text."""
        if not self._starts:
            return None, row, column
        cell = max(bisect_right(self._starts, row), 1)
        return cell, row - self._starts[cell - 1] + 1, column

    def joined_row(self, cell: int | None, row: int) -> int:
        """The row in the joined text of a row within a cell."""
        if cell is None or not self._starts:
            return row
        return self._starts[cell - 1] + row - 1

    def lines(self) -> list[str]:
        """The lines that the user wrote, without their ends, of the joined text."""
        return split_lines(self.shown)


_LINE_END = re.compile(r"\r\n|\r|\n")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)")


def split_lines(text: str) -> list[str]:
    """Split where Python sees a line end, and nowhere else."""
    return _LINE_END.split(text)


def line_starts(text: str) -> list[int]:
    """The offset at which each line begins."""
    return [0, *accumulate(map(len, _LINE.findall(text)))]


def decode(data: bytes, path: str) -> Source:
    """The source in a file's bytes; raises `UnreadableSource` or `InvalidSource`."""
    if is_notebook(path):
        return _notebook(data, path)
    text = _without_surrogates(_decode_python(data))
    null = text.find("\0")
    if null >= 0:
        row, column = position(text, null)
        raise InvalidSource("source code cannot contain null bytes", row, column)
    return Source(path, text)


def position(text: str, offset: int) -> tuple[int, int]:
    """The 1-based row and column of an offset."""
    before = text[:offset]
    row = len(_LINE_END.findall(before)) + 1
    return row, offset - max(before.rfind("\n"), before.rfind("\r"))


_BOM = b"\xef\xbb\xbf"
_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_BLANK = re.compile(rb"^[ \t\f]*(?:#.*)?$")


def _decode_python(data: bytes) -> str:
    """Decode as PEP 263 says."""
    has_bom = data.startswith(_BOM)
    if has_bom:
        data = data[len(_BOM) :]
    declared = _declared_encoding(data)
    if declared is None or declared.replace("_", "-").lower() in ("utf-8", "utf8", "utf-8-sig"):
        return _decode_as(data, "utf-8", "UTF-8")
    if has_bom:
        problem = f"cannot be decoded: it starts as UTF-8 and declares `{declared}`"
        raise UnreadableSource(problem)
    return _decode_as(data, declared, declared)


def _declared_encoding(data: bytes) -> str | None:
    head = data[:4096].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n", 2)
    for line in head[:2]:
        if match := _COOKIE.match(line):
            return match.group(1).decode("ascii", "replace")
        if not _BLANK.match(line):
            return None
    return None


def _decode_as(data: bytes, encoding: str, shown: str) -> str:
    try:
        return data.decode(encoding)
    except LookupError:
        raise UnreadableSource(f"cannot be decoded: unknown encoding `{shown}`") from None
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        problem = f"cannot be decoded as {shown}: byte 0x{data[error.start]:02x}"
        raise UnreadableSource(problem, row, column) from None
    except (UnicodeError, ValueError, OverflowError):  # what stateful codecs raise
        raise UnreadableSource(f"cannot be decoded as {shown}") from None


_SURROGATE = late.pattern("[\ud800-\udfff]")


def _without_surrogates(text: str) -> str:
    """Lone surrogates (from JSON escapes and odd codecs) cannot be handed to the parser."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


# --- notebooks -----------------------------------------------------------------------------


def _notebook(data: bytes, path: str) -> Source:
    import json

    try:
        document = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UnreadableSource("is not a notebook: not UTF-8") from None
    except json.JSONDecodeError as error:
        problem = f"is not a notebook: invalid JSON: {error.msg}"
        raise UnreadableSource(problem, error.lineno, error.colno) from None
    except (RecursionError, ValueError):
        raise UnreadableSource("is not a notebook: invalid JSON") from None
    cells = [_without_surrogates(text) for text in _code_cells(document)]
    starts: list[int] = []
    row = 1
    for text in cells:
        starts.append(row)
        row += len(_LINE_END.findall(text))
    parsed = "".join(blank_magics(text) for text in cells)
    null = parsed.find("\0")
    if null >= 0:
        raise InvalidSource("source code cannot contain null bytes", *position(parsed, null))
    return Source(path, parsed, tuple(starts), "".join(cells))


def _code_cells(document: Any) -> list[str]:
    """The text of each code cell, each ending in a line end."""
    if not isinstance(document, dict):
        raise UnreadableSource("is not a notebook: not a JSON object")
    cells = document.get("cells")
    if cells is None:  # the format before 2015 nests them
        sheets = document.get("worksheets")
        if isinstance(sheets, list) and sheets and isinstance(sheets[0], dict):
            cells = sheets[0].get("cells")
    if not isinstance(cells, list):
        raise UnreadableSource("is not a notebook: it has no list of cells")
    python = _is_python(document.get("metadata"))
    texts: list[str] = []
    for cell in cells:
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            text = _cell_text(cell)
            if not text.endswith(("\n", "\r")):
                text += "\n"
            own = python and _is_python_cell(cell.get("metadata"))
            texts.append(text if own else _blank_all(text))
    return texts


def _cell_text(cell: dict[str, Any]) -> str:
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        return "".join(part for part in source if isinstance(part, str))
    return source if isinstance(source, str) else ""


def _is_python(metadata: object) -> bool:
    """Whether a notebook's kernel runs Python; it does where nothing is said."""
    if not isinstance(metadata, dict):
        return True
    language = metadata.get("language_info")
    kernel = metadata.get("kernelspec")
    names = [language.get("name")] if isinstance(language, dict) else []
    if isinstance(kernel, dict):
        names += [kernel.get("language"), kernel.get("name")]
    said = [name.casefold() for name in names if isinstance(name, str) and name]
    return not said or "python" in said[0] or (len(said) > 1 and "python" in said[-1])


def _is_python_cell(metadata: object) -> bool:
    editor = metadata.get("vscode") if isinstance(metadata, dict) else None
    language = editor.get("languageId") if isinstance(editor, dict) else None
    return language in (None, "python")


def _blank_all(text: str) -> str:
    return "".join(_LINE_END.findall(text))


_MAY_HAVE_MAGIC = late.pattern(r"^\s*[%!?]|=\s*[%!]|\?\s*$", re.MULTILINE)
_PYTHON_CELL_MAGICS = late.pattern(r"%%(?:time|timeit|capture|prun|debug|memray_flamegraph)\b")
_MAGIC_LINE = late.pattern(r"(?P<indent>[ \t]*)(?:[%!?]|[\w.*\[\]()'\" ]+\?{1,2}[ \t]*(?:#.*)?$)")
_TIMED = late.pattern(r"(?P<indent>[ \t]*)%time[ \t]+(?![-\s])(?P<code>\S.*)")
_MAGIC_VALUE = late.pattern(r"(?P<target>[ \t]*[A-Za-z_][\w.,\[\]'\" \t]*?=)[ \t]*[%!](?!=)")


def blank_magics(text: str) -> str:
    """A cell in which IPython's own syntax is replaced by Python that does nothing.

    Line counts stay. `%%time` and the like run the rest of the cell as Python, so only their own
    line goes; any other cell magic takes the whole cell. `%time x = f()` keeps its statement at
    its column.
    """
    if not _MAY_HAVE_MAGIC.search(text):
        return text
    head = text.lstrip()
    if head.startswith("%%") and not _PYTHON_CELL_MAGICS.match(head):
        return _blank_all(text)
    parts = _LINE_END.split(text)
    ends = [*_LINE_END.findall(text), ""]
    free = _statement_starts(parts)
    continued = False
    for index, line in enumerate(parts):
        if continued:
            parts[index] = ""
            continued = line.rstrip().endswith("\\")
        elif free[index]:
            parts[index], continued = _blank_line(line)
    return "".join(line + end for line, end in zip(parts, ends, strict=True))


def _blank_line(line: str) -> tuple[str, bool]:
    """A line without its magic, and whether the magic goes on in the next line."""
    if timed := _TIMED.match(line):
        # "0;" takes the place of the magic, so that the statement keeps its column.
        before = line[: timed.start("code")]
        padding = len(before) - len(timed["indent"]) - 2
        return f"{timed['indent']}0;{' ' * padding}{timed['code']}", False
    if line.lstrip().startswith("%%"):
        return "", False
    continues = line.rstrip().endswith("\\")
    if magic := _MAGIC_LINE.match(line):
        return f"{magic['indent']}pass", continues
    if value := _MAGIC_VALUE.match(line):
        return f"{value['target']} get_ipython()", continues
    return line, False


_OPENING = frozenset("([{")
_CLOSING = frozenset(")]}")
_PIECE = late.pattern(
    r'"""|\'\'\'|"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|#.*|[()\[\]{}]|\\$',
)


def _statement_starts(lines: list[str]) -> list[bool]:
    """Which lines begin outside brackets, strings and continuations.

    A line that IPython would take itself is not read for brackets and quotes.
    """
    starts: list[bool] = []
    depth = 0
    quote = ""
    joined = False
    for line in lines:
        free = not depth and not quote and not joined
        starts.append(free)
        if free and (line.lstrip()[:1] in ("%", "!", "?") or _MAGIC_VALUE.match(line)):
            continue
        depth, quote, joined = _after_line(line, depth, quote)
    return starts


def _after_line(line: str, depth: int, quote: str) -> tuple[int, str, bool]:
    """Bracket depth, open triple quote and continuation after a line."""
    at = 0
    joined = False
    while True:
        if quote:
            end = line.find(quote, at)
            if end < 0:
                return depth, quote, False
            at, quote = end + 3, ""
        match = _PIECE.search(line, at)
        if match is None:
            return depth, quote, joined
        at = match.end()
        piece = match.group()
        if piece in ('"""', "'''"):
            quote = piece
        elif piece in _OPENING:
            depth += 1
        elif piece in _CLOSING:
            depth = max(depth - 1, 0)
        joined = piece == "\\"
