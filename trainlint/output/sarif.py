"""SARIF 2.1.0, the evidence trail as a code flow."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from trainlint import __version__
from trainlint.core.catalogue import Catalogue
from trainlint.core.diagnostic import Diagnostic, Related, Severity, Span
from trainlint.output.formats import URL, fingerprints

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def sarif(diagnostics: Sequence[Diagnostic], cwd: str, catalogue: Catalogue) -> str:
    """One run with all rules that were violated."""
    codes = sorted({found.code for found in diagnostics})
    index = {code: at for at, code in enumerate(codes)}
    marks = fingerprints(diagnostics, cwd)
    results = [
        _result(found, cwd, index[found.code], mark)
        for found, mark in zip(diagnostics, marks, strict=True)
    ]
    driver = {
        "name": "trainlint",
        "version": __version__,
        "semanticVersion": __version__,
        "informationUri": URL,
        "rules": [_rule(code, catalogue, diagnostics) for code in codes],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"SRCROOT": {"uri": _file_uri(cwd.rstrip(os.sep) + os.sep)}},
        "results": results,
    }
    document = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2) + "\n"


def _rule(code: str, catalogue: Catalogue, diagnostics: Sequence[Diagnostic]) -> dict[str, Any]:
    found = next(d for d in diagnostics if d.code == code)
    rule = catalogue.find(code)
    text = rule.summary if rule else found.name
    return {
        "id": code,
        "name": found.name,
        "shortDescription": {"text": text},
        "helpUri": found.url,
        "help": {"text": text, "markdown": f"{text}\n\n[{found.name}]({found.url})"},
        "defaultConfiguration": {"level": _LEVELS[rule.severity if rule else found.severity]},
    }


def _result(found: Diagnostic, cwd: str, rule_index: int, mark: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": found.code,
        "ruleIndex": rule_index,
        "level": _LEVELS[found.severity],
        "message": {"text": _said(found.message, found.cell)},
        "locations": [{"physicalLocation": _physical(found.filename, found.span, cwd)}],
        "partialFingerprints": {"trainlint/v1": mark},
    }
    if found.related:
        result["relatedLocations"] = [
            {"id": at, **_related(related, cwd)} for at, related in enumerate(found.related, 1)
        ]
        last = {
            "physicalLocation": _physical(found.filename, found.span, cwd),
            "message": {"text": found.message},
        }
        steps = [*(_related(related, cwd) for related in found.related), last]
        result["codeFlows"] = [{"threadFlows": [{"locations": [{"location": s} for s in steps]}]}]
    if found.fix:
        result["fixes"] = [_fix(found, cwd)]
    return result


def _said(message: str, cell: int | None) -> str:
    return message if cell is None else f"cell {cell}: {message}"


def _related(related: Related, cwd: str) -> dict[str, Any]:
    return {
        "physicalLocation": _physical(related.filename, related.span, cwd),
        "message": {"text": _said(related.message, related.cell)},
    }


def _fix(found: Diagnostic, cwd: str) -> dict[str, Any]:
    assert found.fix is not None
    return {
        "description": {"text": found.fix.message},
        "artifactChanges": [
            {
                "artifactLocation": _artifact(found.filename, cwd),
                "replacements": [
                    {
                        "deletedRegion": _region(edit.span),
                        "insertedContent": {"text": edit.content},
                    }
                    for edit in found.fix.edits
                ],
            }
        ],
    }


def _physical(filename: str, span: Span, cwd: str) -> dict[str, Any]:
    return {"artifactLocation": _artifact(filename, cwd), "region": _region(span)}


def _region(span: Span) -> dict[str, int]:
    return {
        "startLine": span.start.row,
        "startColumn": span.start.column,
        "endLine": span.end.row,
        "endColumn": span.end.column,
    }


def _artifact(filename: str, cwd: str) -> dict[str, str]:
    prefix = cwd.rstrip(os.sep) + os.sep
    if filename.startswith(prefix):
        relative = filename[len(prefix) :].replace(os.sep, "/")
        return {"uri": quote(os.fsencode(relative)), "uriBaseId": "SRCROOT"}
    return {"uri": _file_uri(filename)}


def _file_uri(path: str) -> str:
    path = path.replace(os.sep, "/")
    return "file://" + quote(os.fsencode(path if path.startswith("/") else f"/{path}"), safe="/:")
