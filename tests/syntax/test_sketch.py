"""A file's text shows what it may define and what its methods mention, without being parsed."""

from __future__ import annotations

import pytest

from trainlint.flow.ir import Sketch
from trainlint.syntax.sketch import sketch

VOCABULARY = frozenset({"train", "backward"})


def of(text: str) -> Sketch:
    return sketch(text, VOCABULARY, frozenset({"__init__"}))


@pytest.mark.parametrize(
    "text",
    [
        "def wanted(): ...",
        "wanted = 1",
        "from .other import wanted",
        "import other as wanted",
        "if flag:\n    class wanted: ...",
        "from .other import *",
        "from .other import ( * )",
        "x = f'{(wanted := 1)}'",
        "if flag: from .other import *",
        "print(f'{x}', wanted, 'y')",
        "text = f'''\n{x}\n'''\ndef wanted(): ...\ntext = '''\n'''",
        'text = rf"""{x}"""\nwanted = 1\n"""more"""',
        "x = 'a' 'b' \"c'd\"\nwanted = 1",
        "x = ''\nwanted = ''",
        'x = """a"b"""\nwanted = 1',
    ],
)
def test_what_may_define_a_name_is_worth_parsing(text: str) -> None:
    assert of(text).may_give("wanted")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# wanted",
        "'wanted'",
        '"""\nwanted\n"""',
        r"r'''wanted \' wanted'''",
        r"'it\'s wanted'",
        "'a' 'wanted' b'wanted'",
        "f(x)['wanted']",
        "unwanted = 1",
    ],
)
def test_comments_and_strings_define_nothing(text: str) -> None:
    assert not of(text).may_give("wanted")


def test_a_plain_all_says_what_a_star_import_gives() -> None:
    seen = of("from x import y\n__all__ = [\n    'wanted',\n    \"other\",\n]\nhidden = 1\n")
    assert seen.may_export("wanted")
    assert seen.may_export("other")
    assert not seen.may_export("hidden")
    assert not seen.may_export("y")
    assert seen.may_give("hidden")


@pytest.mark.parametrize("more", ["__all__ += other.__all__", "__all__.append('b')"])
def test_an_all_that_grows_says_nothing(more: str) -> None:
    assert of(f"__all__ = ['a']\n{more}\nhidden = 1\n").may_export("hidden")


def test_methods_mention_what_stands_up_to_the_next_one() -> None:
    seen = of(
        "class Trainer:\n"
        "    def fit(\n"
        "        self,\n"
        "    ) -> None:\n"
        "        self.once(loader)\n"
        "    async def once(self, loader):\n"
        "        '''train it'''\n"
        "        loss.backward()\n"
        "def outside():\n"
        "    pass\n"
    )
    assert seen.methods == {"fit": {"once"}, "once": {"backward"}}


def test_two_methods_of_one_name_mention_what_either_does() -> None:
    seen = of("class A:\n    def f(self): x.train()\nclass B:\n    def f(self): x.backward()\n")
    assert seen.methods == {"f": {"train", "backward"}}


def test_a_function_mentions_what_those_inside_it_do() -> None:
    seen = of(
        "def train_all():\n"
        "    def closure():\n"
        "        loss.backward()\n"
        "    step(closure)\n"
        "def step(): ...\n"
    )
    assert seen.definitions == {"train_all": {"backward", "closure", "step"}, "step": set()}


def test_a_class_mentions_what_runs_by_itself() -> None:
    seen = of(
        "class Trainer:\n"
        "    def __init__(self):\n"
        "        net.train()\n"
        "    def fit(self):\n"
        "        loss.backward()\n"
    )
    assert seen.definitions == {"Trainer": {"train"}}
    assert seen.methods == {"__init__": {"train"}, "fit": {"backward"}}


@pytest.mark.parametrize(
    "text",
    [
        "RUNS = {\n    'a': train,\n}\n",
        "RUNS: dict = dict(a=train)\n",
        "RUNS, others = [train], 2\n",
        "RUNS = {}\nRUNS['a'] = train\n",
    ],
)
def test_a_variable_mentions_what_it_is_made_of(text: str) -> None:
    assert of(text).definitions["RUNS"] == {"train"}


@pytest.mark.parametrize(
    "text",
    [
        "RUNS = Registry()\n@RUNS.register\ndef f(): ...\n",
        "if x:\n    RUNS = [train]\n",
        "RUNS == train\n",
    ],
)
def test_what_else_may_be_in_a_variable_is_not_told(text: str) -> None:
    assert "RUNS" not in of(text).definitions


@pytest.mark.parametrize(
    ("text", "bound", "origin"),
    [
        ("from .a import b", "b", (".a", "b")),
        ("from a import (  # why\n    x,\n    b as c,\n)", "c", ("a", "b")),
        ("from a import x, \\\n    b", "b", ("a", "b")),
        ("import a.b", "a", ("a", None)),
        ("import a.b as c, d", "c", ("a.b", None)),
        ("import a.b as c, d", "d", ("d", None)),
        ("if x:\n    from a import b", "b", ("a", "b")),
        ("from .import b", "b", (".", "b")),
        ("from.a import b", "b", (".a", "b")),
        ("from a import (\n    b as\n    c)", "c", ("a", "b")),
        ("from importlib import b", "b", ("importlib", "b")),
    ],
)
def test_imports_say_where_a_name_comes_from(
    text: str, bound: str, origin: tuple[str, str | None]
) -> None:
    assert of(text).imports[bound] == origin
