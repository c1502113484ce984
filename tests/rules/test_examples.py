"""Every example of a rule's page gives exactly the findings that it marks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.checking import check_paths
from tests.fixtures.test_fixtures import marked
from trainlint.core.rule import Rule
from trainlint.rules import all_rules

EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
STATIC = [rule for rule in all_rules() if rule.static and rule.on and rule.default]


@pytest.mark.parametrize("rule", STATIC, ids=lambda rule: rule.code)
def test_examples(rule: type[Rule[Any]], tmp_path: Path) -> None:
    examples = EXAMPLE.findall(rule.page())
    assert len(examples) >= 2, "a page has a bad and a good example"
    for number, example in enumerate(examples):
        path = tmp_path / f"example{number}.py"
        path.write_text(example, encoding="utf-8")
        expected, gaps = marked(path)
        found = {(d.cell, d.span.start.row, d.name, d.severity.value) for d in check_paths([path])}
        assert {f for f in found if f[:3] not in gaps} == expected, example


@pytest.mark.parametrize("rule", STATIC, ids=lambda rule: rule.code)
def test_a_page_marks_its_own_rule(rule: type[Rule[Any]]) -> None:
    bad = EXAMPLE.findall(rule.page())[0]
    assert f"[{rule.name}]" in bad
