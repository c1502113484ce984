"""Whatever the bytes, `check` ends, reports, and does not fall over."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trainlint import check
from trainlint.files import Neighbourhood
from trainlint.rules import all_rules

ROOT = Path(__file__).parents[2]
RULES = [rule for rule in all_rules() if rule.on and rule.static]
PLAN = check.Plan(
    frozenset(rule.code for rule in all_rules()),
    tuple(sorted({trigger for rule in RULES for trigger in rule.triggers})),
)
QUICK = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
    ],
)


def checked(data: bytes, name: str = "/nowhere/a.py") -> check.FileResult:
    """The result for some bytes; an exception would be an internal error."""
    result = check.Checker(Neighbourhood(), {name: data}).check(name, PLAN)
    for found in result.diagnostics:
        assert found.filename == name
        assert found.span.start.row >= 1
        assert found.span.start.column >= 1
        assert found.span.start <= found.span.end
    return result


@QUICK
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    checked(data)
    checked(b"backward\n" + data)


@QUICK
@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    checked(("# backward\n" + text).encode("utf-8", "surrogatepass"))


IMPORTING = st.sampled_from(
    [*"import from ( ) () * as , . \\ # evaluate helper def class =".split(), "\n"]
)


@settings(QUICK, max_examples=30)
@given(st.lists(IMPORTING, max_size=25))
@example(["import", "()"])
def test_anything_in_a_file_beside(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    """A file that may import what is checked is read as bytes, and may be anything."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "evaluate.py").write_text(HELPERS)
    (folder / "beside.py").write_text(" ".join(words))
    path = str(folder / "evaluate.py")
    assert check.Checker(Neighbourhood()).check(path, PLAN).parsed


HELPERS = """
def evaluate(model, loader):
    model.eval()
    for x in loader:
        print(model(x).argmax())

def train(model, optimizer, loader):
    for x in loader:
        model(x).sum().backward()
        optimizer.step()
"""
WORDS = st.sampled_from(
    [
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ":",
        ",",
        ".",
        "=",
        "+",
        "-",
        "*",
        "**",
        "@",
        "->",
        ":=",
        ";",
        "\\",
        "\n",
        "\t",
        "\x0c",
        "\r",
        "\x00",
        "'",
        '"',
        "'''",
        '"""',
        "#",
        "f'",
        'f"',
        "{x}",
        "%",
        "!",
        "?\n",
        "",
        "",
        "",
        "if",
        "else",
        "elif",
        "for",
        "while",
        "with",
        "try",
        "except",
        "finally",
        "def",
        "class",
        "return",
        "yield",
        "await",
        "async",
        "lambda",
        "match\n",
        "",
        "",
        "",
        "case",
        "type",
        "import",
        "from",
        "as",
        "global",
        "del",
        "pass",
        "raise",
        "not",
        "and",
        "or",
        "in",
        "is",
        "None",
        "0",
        "1e9",
        "0x",
        "1j",
        "é",
        "日",
        "x",
        "y",
        "model\n",
        "",
        "",
        "",
        ".train()",
        ".eval",
        ".backward()",
        ".step()",
        "optimizer",
        "torch.no_grad()",
        "super()",
        "self",
        "",
    ]
)


@QUICK
@given(st.lists(WORDS, max_size=60))
def test_words_of_python_in_any_order(words: list[str]) -> None:
    checked(("model.eval\n" + " ".join(words)).encode())


@QUICK
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "cells",
                        "cell_type",
                        "source",
                        "metadata",
                        "kernelspec",
                        "language",
                        "worksheets",
                    ]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_as_a_notebook(document: object) -> None:
    checked(json.dumps(document).encode(), "/nowhere/a.ipynb")


@QUICK
@given(st.lists(st.text(max_size=60), max_size=5))
def test_any_cells(cells: list[str]) -> None:
    rows = [{"cell_type": "code", "source": f"model.eval\n{text}"} for text in cells]
    checked(json.dumps({"cells": rows}).encode(), "/nowhere/a.ipynb")


SAMPLES = sorted((ROOT / "fixtures").rglob("*.py"))[::9]


@pytest.mark.parametrize("seed", range(24))
def test_mutated_real_files(seed: int) -> None:
    """Cuts, swaps and noise in files that exist."""
    pick = random.Random(seed)
    data = bytearray(pick.choice(SAMPLES).read_bytes())
    for _ in range(pick.randint(1, 6)):
        at, length = pick.randrange(len(data)), pick.randint(0, 40)
        match pick.randint(0, 3):
            case 0:
                del data[at : at + length]
            case 1:
                data[at:at] = data[pick.randrange(len(data)) :][:length]
            case 2:
                data[at] = pick.randrange(256)
            case _:
                data[at:at] = pick.choice([b"(", b"\n", b"'''", b"\t", b"\\", b"\r", b"\x0c"])
    checked(bytes(data))


@pytest.mark.slow
@settings(QUICK, max_examples=6)
@given(st.data())
def test_generated_programs(data: st.DataObject) -> None:
    from hypothesmith import from_grammar

    checked(("backward\n" + data.draw(from_grammar())).encode("utf-8", "surrogatepass"))


SYNTAX = {
    "match": "match x:\n    case [1, *_] | {'a': b, **c} if b: model.eval\n    case P(q=1): pass",
    "walrus": "if (n := len(a)) > 1: model.eval",
    "PEP 695": "type A[T: int, *U, **P] = list[T]\ndef f[T](x: T) -> T: model.eval\nclass C[T]: pass",
    "PEP 701": "f'{f\"{1}\"} {'a' + \"b\"} {x!r:>{w}}'\nmodel.eval",
    "except*": "try:\n    model.eval\nexcept* (A, B) as e:\n    pass",
    "async": "async def f():\n    async with a as b, c:\n        async for x in y:\n            await model.eval\n    return [i async for i in z]",
    "positional only": "def f(a, /, b, *, c): model.eval",
    "parenthesized with": "with (a as b, c as d):\n    model.eval",
    "decorators": "@a.b[1](lambda x: x)\ndef f(): model.eval",
    "star in index": "a[*b]\nmodel.eval",
    "form feed": "\x0cif 1:\n\x0c    model.eval\n",
    "tabs": "if 1:\n\tmodel.eval\n        \n",
    "CR": "model.eval\rmodel.eval\r",
    "CRLF": "if 1:\r\n    model.eval\r\n",
    "no last newline": "model.eval",
    "only a comment": "# model.eval",
    "continued": "model\\\n.eval",
    "names": "模型.eval\nˍ = 1",
    "numbers": "x = 0xFF_FF + 1_0.0e-1_0j + 0b1 + 0o7\nmodel.eval",
    "huge literal": "x = '" + "a" * 1_000_000 + "'\nmodel.eval",
    "long line": "x = [" + "'é', " * 30_000 + "]\nmodel.eval",
    "bytes": 'x = rb\'\\x\' b"""\n"""\nmodel.eval',
    "PEP 758": "try:\n    model.eval\nexcept A, B:\n    pass",
    "t-string": "t'{model.eval}'",
}


@pytest.mark.parametrize("text", SYNTAX.values(), ids=SYNTAX)
def test_all_syntax(text: str) -> None:
    checked(text.encode())


ENDLESS_LINES = {
    "attributes": "a.training, " * 30_000,
    "keywords": "f(" + "a=(1), " * 20_000 + ")",
    "assignments": "a, b = " * 1_000 + "c",
    "commas": "(" + "a, " * 50_000 + "b)",
    "calls": "x = [" + "f(a), " * 20_000 + "]",
    "fields": "f'" + "{a}{b:{c}}" * 5_000 + "'",
}
"""Lines for which a careless regular expression takes hours."""


@pytest.mark.parametrize("line", ENDLESS_LINES.values(), ids=ENDLESS_LINES)
def test_endless_lines_in_a_function(line: str) -> None:
    """What is asked of a function's text before it is parsed takes time linear in a line."""
    text = f"class Net(nn.Module):\n    def setup(self):\n        self.a.train()\n        {line}\n"
    checked(f"from torch import nn\n\n\n{text}".encode())


UNTIL_3_13 = [name for name in SYNTAX if name not in ("PEP 758", "t-string")]


@pytest.mark.parametrize("name", UNTIL_3_13)
def test_syntax_up_to_3_13_is_accepted(name: str) -> None:
    assert checked(SYNTAX[name].encode()).parsed
