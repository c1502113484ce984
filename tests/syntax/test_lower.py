"""What each piece of Python becomes in the IR."""

from __future__ import annotations

import asyncio
import json
import math
import warnings
from pathlib import Path
from textwrap import dedent

import libcst
import pytest
from hypothesis import HealthCheck, given, settings

from tests.syntax.ir_text import dump, expression
from trainlint.flow import ir
from trainlint.syntax.lower import TooDeep, lower

hypothesmith = pytest.importorskip("hypothesmith")


def lowered(source: str, **options: tuple[int, ...]) -> str:
    """The dump of a dedented source."""
    return dump(lower(dedent(source), "file.py", **options))


def program(text: str) -> str:
    """An expected dump, written indented in a test."""
    return dedent(text).strip("\n")


def function(source: str) -> ir.Function:
    """The first function of a dedented source."""
    body = lower(dedent(source), "file.py").body
    return next(statement for statement in body if isinstance(statement, ir.Function))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1_000", "1000"),
        ("0x1F", "31"),
        ("2.5e-4", "0.00025"),
        ("3j", "3j"),
        ("True", "True"),
        ("None", "None"),
        ("...", "Ellipsis"),
        ("'it\\'s'", '"it\'s"'),
        ('"""a\nb"""', r"'a\nb'"),
        (r"r'\d'", r"'\\d'"),
        (r"'\d\n'", r"'\\d\n'"),
        ("b'x'", "b'x'"),
        (r"rb'\x'", r"b'\\x'"),
        ("''", "''"),
        ("'''x'''", "'x'"),
        ("''''''", "''"),
        ("'a' 'b' \"c\"", "'abc'"),
        ("b'a' b'b'", "b'ab'"),
        ("f'{{plain}}'", "'{plain}'"),
        ("f'{a} and {b.c:>{width}}'", "text(a, b.c, width)"),
        ("'x' f'{a}' 'y' f'{b!r}'", "text(a, b)"),
    ],
)
def test_literals(source: str, expected: str) -> None:
    (assign,) = lower(f"x = {source}\n", "file.py").body
    assert expression(assign.value) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("model.train(mode=False)", "model.train(mode=False)"),
        ("f(*a, k=1, **b)", "f(*a, k=1, **b)"),
        ("x[0]", "x[0]"),
        ("x[1:]", "x[slice(1, None)]"),
        ("x[::2, i]", "x[(slice(None, None, 2), i)]"),
        ("x[*rest]", "x[(*rest)]"),
        ("a is not b", "(a is not b)"),
        ("a not in b", "(a not in b)"),
        ("0 < x < 1", "((0 < x) and (x < 1))"),
        ("a + b * c", "(a + (b * c))"),
        ("a - b - c", "((a - b) - c)"),
        ("not a", "(not a)"),
        ("-1", "(- 1)"),
        ("a and b and c or d", "((a and b and c) or d)"),
        ("a or (b or c)", "(a or b or c)"),
        ("a if b else c", "(b ? a : c)"),
        ("(a, *b)", "(a, *b)"),
        ("[a, b]", "[a, b]"),
        ("{a, b}", "{a, b}"),
        ("{'a': 1, **b}", "{'a': 1, -: b}"),
        ("[x for x in y if x if z]", "list(x for x in y if x if z)"),
        ("{x for x in y}", "set(x for x in y)"),
        ("(x for x in y)", "generator(x for x in y)"),
        ("{k: v for k, v in y}", "dict(k: v for (k, v) in y)"),
        ("[z for x in a for z in x]", "list(z for x in a for z in x)"),
        ("lambda a, *b, c=1: a", "lambda(a, b <star>, c = 1 <keyword-only>: a)"),
        ("lambda: 0", "lambda(: 0)"),
        ("(n := 3)", "(n := 3)"),
        ("await f()", "await f()"),
    ],
)
def test_expressions(source: str, expected: str) -> None:
    (assign,) = lower(f"x = {source}\n", "file.py").body
    assert expression(assign.value) == expected


def test_middle_of_a_chained_comparison_is_evaluated_once() -> None:
    text = lowered("x = 0 < f() < 1")
    assert text == program("x = ((0 < ($middle4 := f())) and ($middle4 < 1))")


def test_unknown_kinds_of_node_are_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainlint.syntax import expressions
    from trainlint.syntax import lower as lower_module

    monkeypatch.delitem(expressions._HANDLERS, libcst.Call)
    monkeypatch.delitem(lower_module._STATEMENTS, libcst.With)
    assert lowered("x = f()\nwith y: z()") == "x = None"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = b = c", "a = b = c"),
        ("a, (b.c, *d) = e", "(a, (b.c, *d)) = e"),
        ("a: int = 1", "a = 1"),
        ("a: int", ""),
        ("a **= 2", "a **= 2"),
        ("del a, b[0]", "del a, b[0]"),
        ("del a", "del a"),
        ("assert a, message()", "if a:\nelse:\n  raise"),
        ("raise E(x) from y", "raise E(x)"),
        ("pass", ""),
        ("'docstring'", ""),
        ("...", ""),
        ("f(); g()", "f()\ng()"),
        ("import a", "import a = 'a' None"),
        ("import a.b", "import a = 'a' None also a.b"),
        ("import a.b as c, d", "import c = 'a.b' None\nimport d = 'd' None"),
        ("from .a import b as c, d", "import c = '.a' b\nimport d = '.a' d"),
        ("from .. import x", "import x = '..' x"),
        ("from a.b import *", "import * = 'a.b' *"),
        ("if a: b()", "if a:\n  b()"),
        ("while a: break\nelse: b()", "while a:\n  break\nelse:\n  b()"),
        ("for a, b in c: continue", "for (a, b) in c:\n  continue"),
        ("with a as b, c: d()", "with a as b:\n  with c:\n    d()"),
        ("with (a as b, c as d.e): pass", "with a as b:\n  with c as d.e:"),
    ],
)
def test_statements(source: str, expected: str) -> None:
    assert lowered(source) == expected


def test_elif_is_an_if_in_the_else() -> None:
    text = lowered(
        """
        if a: x()
        elif b: y()
        else: z()
        """
    )
    assert text == program(
        """
        if a:
          x()
        else:
          if b:
            y()
          else:
            z()
        """
    )


@pytest.mark.parametrize("star", ["", "*"])
def test_try(star: str) -> None:
    text = lowered(
        f"""
        try: a()
        except{star} E as e: b()
        except{star} (F, G): c()
        else: d()
        finally: f()
        """
    )
    assert text == program(
        """
        try:
          a()
        except E as e:
          b()
        except (F, G):
          c()
        else:
          d()
        finally:
          f()
        """
    )


def test_match_is_a_chain_of_ifs_on_a_hidden_name() -> None:
    text = lowered(
        """
        match phase():
            case "train" | "fit":
                model.train()
            case None:
                pass
            case Phase.EVAL if strict:
                model.eval()
            case other:
                use(other)
        """
    )
    assert text == program(
        """
        $match0 = phase()
        if (($match0 == 'train') or ($match0 == 'fit')):
          model.train()
        else:
          if ($match0 is None):
          else:
            if (($match0 == Phase.EVAL) and strict):
              model.eval()
            else:
              other = $match0
              use(other)
        """
    )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("_", "$match0 = x\nf()"),
        ("int(n)", "if isinstance($match0, int):\n  n = $match0\n  f()"),
        (
            "Batch(loss=l)",
            "if isinstance($match0, Batch):\n  l = $match0.loss\n  f()",
        ),
        (
            "[a, *rest, 0]",
            (
                "if ((len($match0) >= 2) and ($match0[-1] == 0)):\n"
                "  a = $match0[0]\n  rest = $match0[slice(1, -1)]\n  f()"
            ),
        ),
        (
            "{'k': v, **rest}",
            "if ('k' in $match0):\n  v = $match0['k']\n  rest = dict($match0)\n  f()",
        ),
        ("1 as one", "if ($match0 == 1):\n  one = $match0\n  f()"),
        ("_ if ready", "if ready:\n  f()"),
    ],
)
def test_patterns(pattern: str, expected: str) -> None:
    text = lowered(f"match x:\n    case {pattern}:\n        f()\n")
    assert text.removeprefix("$match0 = x\n") == expected.removeprefix("$match0 = x\n")


def test_functions_and_classes() -> None:
    text = lowered(
        """
        @decorate(1)
        async def f(a, /, b: int = 2, *, c: str, **kw) -> T:
            "doc"
            return a

        @final
        class M(nn.Module, metaclass=Meta):
            x: int
            y = 1
            def __init__(self): super().__init__()
        """
    )
    assert text == program(
        """
        @decorate(1)
        async def f(a <positional-only>, b: int = 2, c: str <keyword-only>, kw <double-star>):
          return a
        @final
        class M(nn.Module):
          y = 1
          def __init__(self):
            super().__init__()
        """
    )


def test_only_an_own_yield_makes_a_generator() -> None:
    text = lowered(
        """
        def outer():
            def inner():
                yield from x
            g = lambda: (yield)
        def direct():
            y = yield
        """
    )
    assert text == program(
        """
        def outer():
          generator def inner():
            yield from x
          g = lambda(: yield -)
        generator def direct():
          y = yield -
        """
    )


def test_locals_are_what_a_function_binds() -> None:
    found = function(
        """
        def f(a, *args):
            global g
            import os.path, numpy as np
            b, (c, *d) = e.x = y[0] = 1
            for i in z: pass
            with w as h: pass
            try: pass
            except E as err: pass
            def inner(own): own2 = 1
            class C: attribute = 1
            [q for q in r if (n := q)]
            g = 1
            k: int
            m += 1
            del o
        """
    )
    bound = "a args os np b c d i h err inner C n k m o"
    assert found.locals == frozenset(bound.split())


def test_words_are_all_that_a_definition_mentions() -> None:
    module = lower(
        dedent(
            """
            from lib.tools import step as go
            class C(Base):
                @wraps
                def f(self, n=default):
                    def g(): return self.model.eval()
            """
        ),
        "file.py",
    )
    (_, definition) = module.body
    (method,) = definition.body
    assert method.words == frozenset(["wraps", "self", "n", "default", "g", "model", "eval"])
    assert definition.words == method.words | {"Base", "f"}
    assert module.words == definition.words | {"class", "C", "go", "step", "lib", "tools"}


def test_an_expression_knows_that_a_definition_follows() -> None:
    text = lowered(
        """
        torch.no_grad()
        def f():
            other()
            x = 1
            def g(): pass
        a(); b()

        class C: pass
        last()
        """
    )
    assert [line for line in text.splitlines() if "before def" in line] == [
        "torch.no_grad()  # before def",
        "b()  # before def",
    ]


def test_a_dropped_docstring_is_not_before_a_definition() -> None:
    assert lowered("f()\n'text'\ndef g(): pass") == "f()\ndef g():"


def test_the_last_expression_of_a_notebook_cell_is_displayed() -> None:
    source = "a()\nb(); c()\nd()\nif x:\n    e()\nf();\ng()\n"
    module = lower(source, "n.ipynb", cell_starts=(1, 3, 6, 7))
    assert module.is_notebook
    displayed = [line for line in dump(module).splitlines() if "displayed" in line]
    assert displayed == ["c()  # displayed", "g()  # displayed"]


def test_a_script_displays_nothing() -> None:
    module = lower("a()\n", "file.py")
    assert not module.is_notebook
    assert dump(module) == "a()"


@pytest.mark.parametrize(
    "source",
    [
        "x = " + " + ".join(["a"] * 1_500),
        "x = " + " and ".join(["a"] * 3_000),
        "x = (" + "\n".join(["'a'"] * 1_500) + ")",
        "if a: b\n" + "elif c: d\n" * 3_000,
        "x = a" + ".b()" * 300,
    ],
    ids=["arithmetic", "boolean", "strings", "elif", "methods"],
)
def test_long_chains_are_lowered(source: str) -> None:
    assert len(lower(source + "\n", "file.py").body) == 1


def test_nesting_that_has_no_room_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainlint.syntax.depth._FRAMES", 0)
    with pytest.raises(TooDeep):
        lower("x = a" + ".b()" * 600 + "\n", "file.py")


def test_huge_numbers_are_values() -> None:
    (huge, hexadecimal) = lower(f"x = {'9' * 5_000}\ny = 0x{'f' * 5_000}\n", "file.py").body
    assert huge.value.value == math.inf
    assert hexadecimal.value.value == 16**5_000 - 1


def test_invalid_escapes_warn_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lowered(r"x = '\d'") == r"x = '\\d'"


def test_text_that_is_not_python_is_an_error() -> None:
    with pytest.raises(libcst.ParserSyntaxError):
        lower("def", "file.py")


_PACKAGES = [Path(json.__file__).parent, Path(asyncio.__file__).parent]


def _installed() -> list[Path]:
    """The sources of the libraries that users import, where they are installed."""
    from importlib.util import find_spec

    folders = list(_PACKAGES)
    for name, inside in (("torch", "optim"), ("peft", "."), ("accelerate", ".")):
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            folders.append(Path(spec.origin).parent / inside)
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


@pytest.mark.parametrize("path", _installed(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_installed_sources_are_lowered(path: Path) -> None:
    module = lower(path.read_text(encoding="utf-8"), str(path))
    dump(module)
    statements = module.tree.statements
    assert statements == sorted(statements)


@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # hypothesmith compiles what it makes
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(hypothesmith.from_grammar())
def test_generated_programs_are_lowered(source: str) -> None:
    try:
        libcst.parse_module(source)
    except libcst.ParserSyntaxError:
        return
    dump(lower(source, "file.py"))
