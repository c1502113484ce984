"""A notebook is its code cells, in order, as one text whose rows can be told apart again."""

from __future__ import annotations

import json

import pytest

from trainlint.syntax.source import Source, UnreadableSource, decode


def notebook(*cells: object, **document: object) -> Source:
    rows = [
        cell if isinstance(cell, dict) else {"cell_type": "code", "source": cell} for cell in cells
    ]
    return decode(json.dumps({"cells": rows, **document}).encode(), "a.ipynb")


def test_code_cells_are_joined_in_order() -> None:
    markdown = {"cell_type": "markdown", "source": "# Title"}
    assert notebook("x = 1", markdown, ["y = 2\n", "z = 3"]).text == "x = 1\ny = 2\nz = 3\n"


def test_positions_are_told_by_code_cell() -> None:
    markdown = {"cell_type": "markdown", "source": "# Title"}
    source = notebook("x = 1\ny = 2", markdown, "z = 3")
    assert source.locate(1, 1) == (1, 1, 1)
    assert source.locate(2, 5) == (1, 2, 5)
    assert source.locate(3, 1) == (2, 1, 1)
    assert source.joined_row(2, 1) == 3


def test_empty_cells_count() -> None:
    source = notebook("", "x = 1")
    assert source.locate(2, 1) == (2, 1, 1)
    assert source.text == "\nx = 1\n"


def test_what_is_shown_is_what_was_written() -> None:
    source = notebook("%pip install torch\nx = 1")
    assert source.lines()[0] == "%pip install torch"


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"kernelspec": {"language": "R", "name": "ir"}}, id="R"),
        pytest.param({"language_info": {"name": "julia"}}, id="Julia"),
        pytest.param({"kernelspec": {"name": "bash"}}, id="bash"),
    ],
)
def test_other_kernels_are_passed_over(metadata: dict[str, object]) -> None:
    assert notebook("library(torch)\nx <- 1", metadata=metadata).text == "\n\n"


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({}, id="nothing said"),
        pytest.param({"kernelspec": {"name": "my-env", "language": "python"}}, id="by language"),
        pytest.param({"kernelspec": {"name": "python3"}}, id="by name"),
        pytest.param({"language_info": {"name": "ipython"}}, id="IPython"),
        pytest.param({"kernelspec": 3, "language_info": []}, id="nonsense"),
    ],
)
def test_python_kernels(metadata: dict[str, object]) -> None:
    assert notebook("x = 1", metadata=metadata).text == "x = 1\n"


def test_a_cell_in_another_language_is_blank() -> None:
    sql = {"cell_type": "code", "source": "select 1", "metadata": {"vscode": {"languageId": "sql"}}}
    assert notebook(sql, "x = 1").text == "\nx = 1\n"


def test_the_format_of_before_2015() -> None:
    sheet = {"cells": [{"cell_type": "code", "input": ["x = 1\n", "y = 2"]}]}
    source = decode(json.dumps({"worksheets": [sheet]}).encode(), "a.ipynb")
    assert source.text == "x = 1\ny = 2\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"cells": 3}',
        b'{"worksheets": []}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_notebook(data: bytes) -> None:
    with pytest.raises(UnreadableSource, match="is not a notebook"):
        decode(data, "a.ipynb")


@pytest.mark.parametrize(
    "cell", [None, 3, {}, {"cell_type": "code"}, {"cell_type": "code", "source": 3}]
)
def test_odd_cells_do_no_harm(cell: object) -> None:
    document = json.dumps({"cells": [cell, {"cell_type": "code", "source": "x = 1"}]})
    assert decode(document.encode(), "a.ipynb").text.strip() == "x = 1"


def test_a_lone_surrogate_in_json_does_not_reach_the_parser() -> None:
    data = b'{"cells": [{"cell_type": "code", "source": "x = \'\\ud800\'"}]}'
    decode(data, "a.ipynb").text.encode()
