"""Codes, prefixes, names and ALL; layers; the more specific wins."""

from __future__ import annotations

import pytest

from trainlint.core.catalogue import Catalogue, Layer, RuleInfo, UnknownSelector
from trainlint.core.diagnostic import Severity


def rule(code: str, name: str, default: bool = True) -> RuleInfo:
    return RuleInfo(code, name, Severity.ERROR, default, True, False, True, "", ())


RULES = Catalogue(
    [
        rule("TL001", "invalid-syntax"),
        rule("TL002", "unreadable-file"),
        rule("TL003", "unused-suppression", default=False),
        rule("TL101", "train-in-eval-mode"),
        rule("TL102", "eval-in-train-mode"),
        rule("TL213", "graph-retained", default=False),
        rule("TL205", "missing-zero-grad"),
    ]
)
ALWAYS = {"TL001", "TL002"}


def selected(*layers: Layer) -> set[str]:
    return set(RULES.resolve(layers)) - ALWAYS


def test_the_default_is_everything_that_is_on() -> None:
    assert selected() == {"TL101", "TL102", "TL205"}


@pytest.mark.parametrize(
    ("select", "codes"),
    [
        (("TL101",), {"TL101"}),
        (("train-in-eval-mode",), {"TL101"}),
        (("TL1",), {"TL101", "TL102"}),
        (("TL10",), {"TL101", "TL102"}),
        (("TL2",), {"TL205"}),
        (("TL213",), {"TL213"}),
        (("graph-retained",), {"TL213"}),
        (("ALL",), {"TL003", "TL101", "TL102", "TL205", "TL213"}),
        (("TL",), {"TL101", "TL102", "TL205"}),
        (("TL1", "TL205"), {"TL101", "TL102", "TL205"}),
    ],
)
def test_selectors(select: tuple[str, ...], codes: set[str]) -> None:
    assert selected(Layer(select)) == codes


def test_the_more_specific_wins() -> None:
    assert selected(Layer(("TL1",), ignore=("TL101",))) == {"TL102"}
    assert selected(Layer(("TL101",), ignore=("TL1",))) == {"TL101"}
    assert selected(Layer(("ALL",), ignore=("TL",))) == set()


def test_an_equally_specific_ignore_wins() -> None:
    assert selected(Layer(("TL101", "TL102"), ignore=("TL101",))) == {"TL102"}


def test_ignoring_a_prefix_also_ignores_what_is_off_by_default() -> None:
    assert selected(Layer(("ALL",), ignore=("TL2",))) == {"TL003", "TL101", "TL102"}


def test_a_higher_layer_that_selects_starts_anew() -> None:
    assert selected(Layer(("TL1",), ignore=("TL101",)), Layer(("TL101",))) == {"TL101"}


def test_a_higher_layer_that_only_ignores_keeps_the_rest() -> None:
    assert selected(Layer(("TL1",)), Layer(None, ignore=("TL101",))) == {"TL102"}


def test_a_higher_layer_that_extends_keeps_the_rest() -> None:
    assert selected(Layer(("TL1",)), Layer(None, ("TL213",))) == {"TL101", "TL102", "TL213"}


def test_files_that_cannot_be_checked_are_reported_whatever_is_selected() -> None:
    assert set(RULES.resolve([Layer(("TL101",))])) == ALWAYS | {"TL101"}
    assert set(RULES.resolve([Layer(("TL101",), ignore=("TL001",))])) == {"TL002", "TL101"}


@pytest.mark.parametrize(
    ("selector", "nearest"),
    [
        ("TL1011", "TL101"),
        ("tl101", "TL101"),
        ("train-in-eval", "train-in-eval-mode"),
        ("all", "ALL"),
        ("E501", None),
        ("", None),
    ],
)
def test_an_unknown_selector_names_the_nearest(selector: str, nearest: str | None) -> None:
    with pytest.raises(UnknownSelector) as caught:
        RULES.matches(selector)
    assert caught.value.nearest == nearest


def test_a_prefix_that_no_rule_has_is_unknown() -> None:
    with pytest.raises(UnknownSelector, match="unknown rule `TL9`; did you mean `TL"):
        RULES.matches("TL9")
