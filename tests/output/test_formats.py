"""What other programs read."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from trainlint.core.diagnostic import (
    Applicability,
    Diagnostic,
    Edit,
    Fix,
    Position,
    Related,
    Severity,
    Span,
)
from trainlint.output import render
from trainlint.rules import catalogue


def span(row: int, column: int, end_row: int, end_column: int) -> Span:
    return Span(Position(row, column), Position(end_row, end_column))


DEFECT = Diagnostic(
    "TL101",
    "train-in-eval-mode",
    Severity.ERROR,
    'trained, 100% <in> "eval" mode',
    "/p/train.py",
    span(41, 9, 41, 24),
    related=(Related("put in eval mode here", "/p/evaluate.py", None, span(7, 5, 7, 17)),),
    fix=Fix(
        Applicability.SAFE,
        "Call `model.train()`",
        (Edit("        model.train()\n", span(38, 1, 38, 1)),),
    ),
)
NOTEBOOK = Diagnostic(
    "TL201", "eval-without-no-grad", Severity.WARNING, "m", "/q/a b.ipynb", span(2, 1, 2, 5), cell=3
)
NOTE = Diagnostic(
    "TL302", "optimizer-includes-frozen-params", Severity.INFO, "m", "/p/z.py", span(1, 1, 1, 2)
)
ALL = [DEFECT, NOTEBOOK, NOTE]


def test_json_is_as_the_contract_says() -> None:
    (row,) = json.loads(render("json", [DEFECT], "/p"))
    assert row == {
        "code": "TL101",
        "name": "train-in-eval-mode",
        "severity": "error",
        "message": 'trained, 100% <in> "eval" mode',
        "filename": "/p/train.py",
        "cell": None,
        "location": {"row": 41, "column": 9},
        "end_location": {"row": 41, "column": 24},
        "related": [
            {
                "message": "put in eval mode here",
                "filename": "/p/evaluate.py",
                "location": {"row": 7, "column": 5},
                "end_location": {"row": 7, "column": 17},
            }
        ],
        "fix": {
            "applicability": "safe",
            "message": "Call `model.train()`",
            "edits": [
                {
                    "content": "        model.train()\n",
                    "location": {"row": 38, "column": 1},
                    "end_location": {"row": 38, "column": 1},
                }
            ],
        },
        "noqa_row": 41,
        "url": "https://trainlint.readthedocs.io/rules/train-in-eval-mode",
    }
    assert list(row)[:4] == ["code", "name", "severity", "message"]


def test_json_without_findings_is_an_empty_array() -> None:
    assert json.loads(render("json", [], "/p")) == []


def test_json_lines() -> None:
    lines = render("json-lines", ALL, "/p").splitlines()
    assert [json.loads(line) for line in lines] == json.loads(render("json", ALL, "/p"))


def test_github() -> None:
    first, second, third = render("github", ALL, "/p").splitlines()
    assert first == (
        "::error title=trainlint (TL101),file=/p/train.py,line=41,col=9,endLine=41,endColumn=24::"
        'train.py:41:9: TL101 trained, 100%25 <in> "eval" mode'
    )
    assert second.startswith("::warning title=trainlint (TL201),file=/q/a b.ipynb::")
    assert third.startswith("::notice ")


def test_gitlab() -> None:
    rows = json.loads(render("gitlab", [DEFECT, DEFECT], "/p"))
    assert rows[0]["location"]["path"] == "train.py"
    assert rows[0]["severity"] == "major"
    assert rows[0]["fingerprint"] != rows[1]["fingerprint"]


def test_fingerprints_survive_moved_lines() -> None:
    from dataclasses import replace

    moved = replace(DEFECT, span=span(50, 9, 50, 24))
    before, after = (json.loads(render("gitlab", [d], "/p")) for d in (DEFECT, moved))
    assert before[0]["fingerprint"] == after[0]["fingerprint"]


def test_junit() -> None:
    tree = ElementTree.fromstring(render("junit", ALL, "/p"))
    assert tree.attrib["failures"] == "3"
    assert [suite.attrib["name"] for suite in tree] == ["train.py", "/q/a b.ipynb", "z.py"]
    failure = tree.find("./testsuite/testcase/failure")
    assert failure is not None
    assert failure.attrib["message"] == DEFECT.message


def test_rdjson() -> None:
    document = json.loads(render("rdjson", ALL, "/p"))
    first = document["diagnostics"][0]
    assert first["code"]["value"] == "TL101"
    assert first["location"]["range"]["start"] == {"line": 41, "column": 9}
    assert first["suggestions"][0]["text"] == "        model.train()\n"


def test_sarif() -> None:
    document = json.loads(render("sarif", ALL, "/p", catalogue=catalogue))
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["TL101", "TL201", "TL302"]
    assert rules[0]["shortDescription"]["text"].startswith("A training step runs")
    first, second, _ = run["results"]
    assert rules[first["ruleIndex"]]["id"] == first["ruleId"] == "TL101"
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "train.py", "uriBaseId": "SRCROOT"}
    assert place["region"]["startLine"] == 41
    flow = first["codeFlows"][0]["threadFlows"][0]["locations"]
    assert [step["location"]["message"]["text"] for step in flow] == [
        "put in eval mode here",
        DEFECT.message,
    ]
    outside = second["locations"][0]["physicalLocation"]["artifactLocation"]
    assert outside == {"uri": "file:///q/a%20b.ipynb"}


@pytest.mark.parametrize(
    "name", ["json", "json-lines", "github", "gitlab", "junit", "rdjson", "sarif"]
)
def test_names_and_messages_that_are_no_text(name: str) -> None:
    odd = Diagnostic(
        "TL103", "n", Severity.ERROR, "a\x00\ud800\n<]]>", "/p/\udcff\n.py", span(1, 1, 1, 2)
    )
    text = render(name, [odd], "/p", catalogue=catalogue)
    text.encode("utf-8", "backslashreplace")
    if name == "junit":
        ElementTree.fromstring(text.encode("utf-8", "backslashreplace"))
