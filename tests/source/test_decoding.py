"""Bytes become text as Python itself would decode them."""

from __future__ import annotations

import os

import pytest

from trainlint.syntax.source import InvalidSource, Stamp, UnreadableSource, decode, read


def text_of(data: bytes) -> str:
    return decode(data, "a.py").text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(b"x = 1\n", "x = 1\n", id="ascii"),
        pytest.param("é = 1\n".encode(), "é = 1\n", id="UTF-8 without a declaration"),
        pytest.param(b"\xef\xbb\xbfx = 1\n", "x = 1\n", id="a byte order mark is dropped"),
        pytest.param(
            b"# coding: latin-1\nx = '\xe9'\n", "# coding: latin-1\nx = 'é'\n", id="line 1"
        ),
        pytest.param(
            b"#!/bin/python\n# -*- coding: cp1252 -*-\nx = '\x80'\n",
            "#!/bin/python\n# -*- coding: cp1252 -*-\nx = '€'\n",
            id="line 2, after a comment",
        ),
        pytest.param(
            b"#!/bin/python\r# vim: set fileencoding=cp1252 :\rx='\x80'",
            "#!/bin/python\r# vim: set fileencoding=cp1252 :\rx='€'",
            id="line 2, old Mac line ends",
        ),
        pytest.param(
            "x = 1\n# coding: latin-1\ny = 'é'\n".encode(),
            "x = 1\n# coding: latin-1\ny = 'é'\n",
            id="not in line 2 after code",
        ),
        pytest.param(b"x = 1\r\ny = 2\r\n", "x = 1\r\ny = 2\r\n", id="line ends are kept"),
        pytest.param(b"", "", id="empty"),
        pytest.param(
            b"# coding: utf_8\nx = '\xc3\xa9'\n",
            "# coding: utf_8\nx = 'é'\n",
            id="an alias of UTF-8",
        ),
    ],
)
def test_decodes(data: bytes, text: str) -> None:
    assert text_of(data) == text


@pytest.mark.parametrize(
    ("data", "problem", "place"),
    [
        pytest.param(b"x = '\xff'\n", "byte 0xff", (1, 6), id="not UTF-8"),
        pytest.param(b"x = 1\nyy = '\xe9'\n", "byte 0xe9", (2, 7), id="the place of the byte"),
        pytest.param(b"# coding: klingon\n", "unknown encoding `klingon`", (1, 1), id="unknown"),
        pytest.param(b"# coding: rot13\n", "`rot13`", (1, 1), id="a codec that is no encoding"),
        pytest.param(
            b"\xef\xbb\xbf# coding: latin-1\n", "starts as UTF-8", (1, 1), id="BOM and cookie"
        ),
        pytest.param("x = 1".encode("utf-16"), "cannot be decoded as UTF-8", (1, 1), id="UTF-16"),
        pytest.param(b"x = '\xed\xa0\x80'", "byte 0xed", (1, 6), id="an encoded surrogate"),
    ],
)
def test_says_what_cannot_be_decoded(data: bytes, problem: str, place: tuple[int, int]) -> None:
    with pytest.raises(UnreadableSource) as caught:
        text_of(data)
    assert problem in caught.value.problem
    assert (caught.value.row, caught.value.column) == place


def test_null_bytes_are_no_python() -> None:
    with pytest.raises(InvalidSource, match="null bytes") as caught:
        text_of(b"x = 1\ny =\0 2\n")
    assert (caught.value.row, caught.value.column) == (2, 4)


def test_surrogates_from_odd_codecs_do_not_reach_the_parser() -> None:
    text = text_of(b"# coding: utf-7\nx = '+2AA-'\n")
    text.encode()  # would raise
    assert len(text) == len("# coding: utf-7\nx = '?'\n")


def test_reads_bytes_and_the_stamp_of_these_bytes(tmp_path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"x = 1\n" * 50_000)
    reading = read(str(path))
    assert reading.data == b"x = 1\n" * 50_000
    assert reading.stamp == Stamp.of(os.stat(path))


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(lambda path: None, "no such file", id="missing"),
        pytest.param(os.mkdir, "a folder", id="folder"),
        pytest.param(os.mkfifo, "a named pipe", id="pipe"),
        pytest.param(lambda path: os.symlink(path, path), "too many levels", id="a link to itself"),
        pytest.param(lambda path: os.symlink("nowhere", path), "no such file", id="a dead link"),
        pytest.param(lambda path: os.symlink("/dev/zero", path), "a device", id="a device"),
        pytest.param(
            lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 17_000_000),
            "too large: 17,000,000 bytes, the limit is 16,000,000",
            id="too large",
        ),
    ],
)
def test_says_what_cannot_be_read(tmp_path, make, problem: str) -> None:
    path = str(tmp_path / "a.py")
    make(path)
    with pytest.raises(UnreadableSource) as caught:
        read(path)
    assert problem in caught.value.problem
