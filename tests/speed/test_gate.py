"""The byte gate changes the speed of a run and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainlint.check import Checker, FileResult, Gate, Plan
from trainlint.files import Neighbourhood
from trainlint.rules import all_rules

ROOT = Path(__file__).parents[2]
RULES = [rule for rule in all_rules() if rule.on and rule.static]
TRIGGERS = tuple(sorted({trigger for rule in RULES for trigger in rule.triggers}))


@pytest.mark.parametrize(
    ("data", "name", "passes"),
    [
        (b"loss.backward()", "a.py", True),
        (b"loss.forward()", "a.py", False),
        (b'{"cells": [{"cell_type": "code", "source": "loss.back\\u0077ard()"}]}', "a.ipynb", True),
        (b'{"cells": [{"cell_type": "markdown", "source": "x.backward("}]}', "a.ipynb", False),
        (b"# coding: utf-7\nloss.+AGI-ackward()", "a.py", True),
        (b"# coding: none\n", "a.py", True),
    ],
)
def test_gate(data: bytes, name: str, passes: bool) -> None:
    assert Gate([b".backward("]).passes(data, name) is passes


def test_a_rule_without_triggers_is_violated_anywhere() -> None:
    assert Gate([b"x", b""]).passes(b"", "a.py")
    assert not Gate([]).passes(b"x", "a.py")


FIXTURES = sorted(p for p in (ROOT / "fixtures").rglob("*") if p.suffix in (".py", ".ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_findings_are_the_same_without_it(part: int) -> None:
    world = Neighbourhood()
    for path in FIXTURES[part::8]:
        gated, open_ = (
            Checker(world).check(str(path), Plan(frozenset(r.code for r in RULES), triggers))
            for triggers in (TRIGGERS, (b"",))
        )
        assert gated.diagnostics == open_.diagnostics, path


def test_each_rule_alone_finds_what_it_finds_among_all() -> None:
    """A rule's own triggers must open the gate for every file that violates it."""
    world = Neighbourhood()
    for path in FIXTURES[::7]:
        result = Checker(world).check(str(path), Plan(frozenset(r.code for r in RULES), (b"",)))
        for found in own(result, path):
            (rule,) = (r for r in RULES if r.code == found)
            assert Gate(rule.triggers).passes(path.read_bytes(), str(path)), (path, found)


def own(result: FileResult, path: Path) -> set[str]:
    return {found.code for found in result.diagnostics if found.filename == str(path)}


def test_notebooks_hide_triggers_behind_json(tmp_path) -> None:
    cell = {"cell_type": "code", "source": 'd["training"] = 1\nmodel.eval\n1'}
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": [cell]}))
    assert Gate([b'"training"']).passes(path.read_bytes(), str(path))
