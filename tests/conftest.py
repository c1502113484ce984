"""What tests of the command line share: a project on disk, and ways to check it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from trainlint import check as road
from trainlint.cli import main
from trainlint.core.facts import Origin, Site
from trainlint.core.rule import Finding
from trainlint.flow import ir
from trainlint.rules import catalogue


class Ran(NamedTuple):
    """How a run of the command line ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, Any]]:
        return json.loads(self.out)

    @property
    def codes(self) -> list[str]:
        return [found["code"] for found in self.json]


class ProjectFolder:
    """A folder with files in it, and the command line run inside it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, content: str | bytes = "") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def notebook(self, name: str, *cells: str, **metadata: Any) -> Path:
        rows = [{"cell_type": "code", "source": text, "metadata": {}} for text in cells]
        return self.write(name, json.dumps({"cells": rows, "metadata": metadata, "nbformat": 4}))

    def run(self, *arguments: str, stdin: str | bytes | None = None, **env: str | None) -> Ran:
        defaults = {"NO_COLOR": "1", "TRAINLINT_CACHE_DIR": None, "FORCE_COLOR": None}
        result = CliRunner().invoke(main, arguments, input=stdin, env={**defaults, **env})
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    def check(self, *arguments: str, stdin: str | bytes | None = None) -> Ran:
        """`trainlint check --output-format json`."""
        return self.run("check", "--output-format", "json", *arguments, stdin=stdin)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProjectFolder:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return ProjectFolder(folder)


DEFECT = "model.eval\n"
"""What `plain_flow` reports as TL103, at the statement."""

CLEAN = "model.eval()\n"


@pytest.fixture
def plain_flow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """An interpretation that is easy to foresee, for tests of everything around it.

    Each top-level statement `x.eval` is a TL103. Its trail names the first statement of every
    file that the module imports; `elsewhere.eval` is reported there and not here.
    """
    rule = {r.code: r for r in _rule_classes()}["TL103"]

    def interpret(lowered: road.Lowered, loader: Any, plan: road.Plan) -> Any:
        findings: list[Finding] = []
        others: list[ir.Module] = []
        module = lowered.module
        for statement in module.body:
            if isinstance(statement, ir.Import):
                path = loader.find(statement.module, module.path)
                other = loader.load(path) if path else None
                others += [other] if other and other.body else []
            elif isinstance(statement, ir.Expression) and isinstance(statement.value, ir.Attribute):
                owner = statement.value.value
                if statement.value.attr != "eval" or not isinstance(owner, ir.Name):
                    continue
                trail = tuple(
                    Origin(Site(o.path, o.body[0].node), "imported from here") for o in others
                )
                site = Site(module.path, statement.node)
                if owner.id == "elsewhere":
                    site = trail[0].site
                text = f"`{owner.id}.eval` is named and not called"
                findings.append(Finding(rule, site, text, rule.severity, trail))
        return findings, ()

    monkeypatch.setattr(road, "interpret", interpret)
    return interpret


def _rule_classes() -> Any:
    from trainlint.rules import all_rules

    return all_rules()


@pytest.fixture
def rules() -> Any:
    """The catalogue of rules."""
    return catalogue()


def pytest_configure(config: pytest.Config) -> None:
    os.environ.pop("TRAINLINT_OUTPUT_FORMAT", None)
