"""`trainlint rule`, `config` and `clean`."""

from __future__ import annotations

import json

from trainlint.config import OPTIONS
from trainlint.rules import all_rules


def test_rule_by_code_and_by_name(project) -> None:
    by_code = project.run("rule", "TL001")
    assert by_code.status == 0
    assert by_code.out.startswith("# invalid-syntax (TL001)\n")
    assert "## Why is this bad?" in by_code.out
    assert project.run("rule", "invalid-syntax").out == by_code.out


def test_an_unknown_rule_names_the_nearest(project) -> None:
    ran = project.run("rule", "invalid-sintax")
    assert ran.status == 2
    assert "did you mean `invalid-syntax`?" in ran.err


def test_all_rules(project) -> None:
    lines = project.run("rule", "--all").out.splitlines()
    assert len(lines) == len(all_rules())
    assert lines == sorted(lines)


def test_rules_as_json_and_markdown(project) -> None:
    rows = json.loads(project.run("rule", "--all", "--output-format", "json").out)
    assert [row["code"] for row in rows] == [rule.code for rule in all_rules()]
    one = json.loads(project.run("rule", "TL001", "--output-format", "json").out)
    assert one["name"] == "invalid-syntax"
    pages = project.run("rule", "--all", "--output-format", "markdown").out
    assert pages.count("\n# ") + 1 >= len(all_rules())


def test_rule_wants_one_or_all(project) -> None:
    assert project.run("rule").status == 2
    assert project.run("rule", "TL001", "--all").status == 2


def test_config(project) -> None:
    text = project.run("config").out
    assert all(option.key in text for option in OPTIONS)
    assert "semantics.train-mode-functions" in text
    assert 'default: ["TL"]' in project.run("config", "select").out
    assert project.run("config", "selct").status == 2
    assert "exclude" in json.loads(project.run("config", "--output-format", "json").out)


def test_clean(project) -> None:
    project.write("a.py", "x = 1\n")
    project.run("check")
    assert (project.root / ".trainlint_cache").exists()
    assert project.run("clean").status == 0
    assert not (project.root / ".trainlint_cache").exists()
    assert project.run("clean").status == 0


def test_clean_leaves_what_is_not_ours(project) -> None:
    project.write("mine/a.py", "x = 1\n")
    ran = project.run("clean", "--cache-dir", "mine")
    assert ran.status == 2
    assert (project.root / "mine/a.py").exists()


def test_version(project) -> None:
    assert project.run("--version").out.startswith("trainlint 0.")
