"""What `trainlint rule` prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from trainlint.core.rule import Rule
from trainlint.output.formats import URL

Rules = Sequence[type[Rule[Any]]]


def render(rules: Rules, output_format: str, single: bool) -> str:
    """The pages of some rules."""
    if output_format == "json":
        rows = [_as_dict(rule) for rule in rules]
        return json.dumps(rows[0] if single else rows, indent=2) + "\n"
    if output_format == "text" and not single:
        return table(rules)
    return "\n".join(page(rule) for rule in rules)


def page(rule: type[Rule[Any]]) -> str:
    """A rule's page as Markdown; it reads well as it is."""
    facts = [f"`{rule.severity.value}`", "on by default" if rule.default else "off by default"]
    if rule.live:
        facts.append("also found at run time" if rule.static else "found at run time only")
    head = f"# {rule.name} ({rule.code})\n\n{', '.join(facts)}, since {rule.since}\n"
    return f"{head}\n{rule.page()}\n"


def table(rules: Rules) -> str:
    """One line a rule."""
    width = max((len(rule.name) for rule in rules), default=0)
    lines = []
    for rule in rules:
        state = rule.severity.value if rule.default else "off"
        lines.append(f"{rule.code}  {rule.name:<{width}}  {state:<7}  {rule.summary()}\n")
    return "".join(lines)


def markdown_table(rules: Rules) -> str:
    """The catalogue for the documentation."""
    rows = ["| code | name | finds | severity | live |", "| --- | --- | --- | --- | --- |"]
    for rule in rules:
        state = rule.severity.value if rule.default else "off"
        live = "yes" if rule.live else "–"
        link = f"[{rule.name}](rules/{rule.name}.md)"
        rows.append(f"| {rule.code} | {link} | {rule.summary()} | {state} | {live} |")
    return "\n".join(rows) + "\n"


def _as_dict(rule: type[Rule[Any]]) -> dict[str, Any]:
    return {
        "code": rule.code,
        "name": rule.name,
        "severity": rule.severity.value,
        "default": rule.default,
        "static": rule.static,
        "live": rule.live,
        "since": rule.since,
        "summary": rule.summary(),
        "explanation": rule.page(),
        "url": f"{URL}/rules/{rule.name}",
    }
