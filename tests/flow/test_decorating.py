"""Which decorators give back what they are put on."""

from __future__ import annotations

import pytest

from trainlint.flow import ir
from trainlint.flow.decorating import gives_back
from trainlint.flow.project import Project
from trainlint.flow.values import Func
from trainlint.syntax.lower import lower

GIVES_BACK = {
    "a registry": "def deco(f):\n    TABLE[f.__name__] = f\n    return f",
    "on every path": "def deco(f):\n    if a:\n        return f\n    f.mark = 1\n    return f",
    "with arguments": (
        "def deco(f=None, *, name=''):\n"
        "    def inner(f):\n        f.name = name\n        return f\n"
        "    if f is None:\n        return inner\n"
        "    return inner(f)"
    ),
    "through another function": (
        "def note(text, f):\n    f.__doc__ = text\n    return f\ndef deco(f):\n    return note('', f)"
    ),
}

DOES_NOT = {
    "a wrapper": "def deco(f):\n    def inner(*a):\n        return f(*a)\n    return inner",
    "a wrapper that hands on its own argument": (
        "def deco(f):\n    def inner(x):\n        return x\n    return inner"
    ),
    "a wrapper on one path": (
        "def deco(f):\n    def inner():\n        return 1\n"
        "    if a:\n        return inner\n    return f"
    ),
    "a call": "def deco(f):\n    f()\n    return f",
    "another name's value": "def deco(f):\n    f = wrap(f)\n    return f",
    "an unknown function's result": "def deco(f):\n    return wrap(f)",
    "grad mode": "def deco(f):\n    torch.set_grad_enabled(False)\n    return f",
    "itself": "def deco(f):\n    return deco(f)",
    "nothing": "def deco(f):\n    TABLE.append(f)",
}


def decorator(text: str) -> Func:
    info = Project().add(lower(text, "/nowhere/a.py"))
    found = info.bindings["deco"]
    assert isinstance(found, ir.Function)
    return Func(found, info)


@pytest.mark.parametrize("text", GIVES_BACK.values(), ids=GIVES_BACK)
def test_gives_back(text: str) -> None:
    assert gives_back(decorator(text))


@pytest.mark.parametrize("text", DOES_NOT.values(), ids=DOES_NOT)
def test_does_not(text: str) -> None:
    assert not gives_back(decorator(text))
