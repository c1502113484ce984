"""IPython's own syntax is replaced by Python that does nothing, on the same lines."""

from __future__ import annotations

import pytest

from trainlint.syntax.source import blank_magics


@pytest.mark.parametrize(
    ("cell", "python"),
    [
        pytest.param("%matplotlib inline\nx = 1\n", "pass\nx = 1\n", id="line magic"),
        pytest.param("!pip install torch\nx = 1\n", "pass\nx = 1\n", id="shell"),
        pytest.param("if x:\n    !ls\n", "if x:\n    pass\n", id="indented"),
        pytest.param("!pip install \\\n  torch\nx = 1\n", "pass\n\nx = 1\n", id="continued"),
        pytest.param("?model\nmodel?\nmodel.fit??\n", "pass\npass\npass\n", id="help"),
        pytest.param("files = !ls\n", "files = get_ipython()\n", id="assigned shell"),
        pytest.param("t = %timeit -o f()\n", "t = get_ipython()\n", id="assigned magic"),
        pytest.param("%%time\nx = 1\n", "\nx = 1\n", id="a cell magic that runs the cell"),
        pytest.param("%%capture out\nx = 1\n", "\nx = 1\n", id="capture"),
        pytest.param("%%bash\necho 'x\n", "\n\n", id="a cell in another language"),
        pytest.param("\n%%writefile a.py\nx = 1\n", "\n\n\n", id="after blank lines"),
        pytest.param("%time x = f()\n", "0;    x = f()\n", id="the statement keeps its column"),
        pytest.param("if x:\n  %time f()\n", "if x:\n  0;    f()\n", id="indented, timed"),
        pytest.param("%timeit f()\n", "pass\n", id="timeit runs on a copy of nothing"),
    ],
)
def test_magics(cell: str, python: str) -> None:
    assert blank_magics(cell) == python
    compile(python if python.strip() else "", "cell", "exec")


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param("x = (a\n     % b)\n", id="modulo on a continued line"),
        pytest.param('x = """\n%d items\n!\n"""\n', id="inside a string"),
        pytest.param("x = a \\\n  % b\n", id="after a backslash"),
        pytest.param("x = a != b\n", id="unequal"),
        pytest.param("x = 'why?'\n", id="a question mark in a string"),
        pytest.param("# is it so?\n", id="a question mark in a comment"),
        pytest.param("x %= 2\n", id="augmented modulo"),
        pytest.param("print('100%')\n", id="a percent sign in a string"),
    ],
)
def test_python_is_left_alone(cell: str) -> None:
    assert blank_magics(cell) == cell


def test_a_quote_in_a_shell_line_does_not_open_a_string() -> None:
    assert blank_magics("!echo it's\n%cd x\ny = 1\n") == "pass\npass\ny = 1\n"
