"""The standard library, its hostile test data, and installed packages go through."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest

from trainlint.check import Checker, Plan
from trainlint.files import Neighbourhood
from trainlint.rules import all_rules

STANDARD = Path(sysconfig.get_path("stdlib"))
SITE = Path(sysconfig.get_path("purelib"))
CODES = frozenset(rule.code for rule in all_rules())


def check_all(files: list[Path]) -> None:
    """An exception is an internal error; every file is parsed, whatever is in it."""
    checker = Checker(Neighbourhood())
    plan = Plan(CODES, (b"",))
    for path in files:
        try:
            result = checker.check(str(path), plan)
        except Exception as error:
            raise AssertionError(f"{path}: {error!r}") from error
        for found in result.diagnostics:
            assert (
                found.code != "TL001"
                or "bad" in path.name
                or "/test" in str(path)
                or ("lib2to3" in str(path))
            ), (path, found)


def some(folder: Path, step: int) -> list[Path]:
    files = sorted(p for p in folder.rglob("*.py") if p.stat().st_size < 150_000)
    return files[::step]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["json", "importlib", "email"])
def test_the_standard_library(name: str) -> None:
    check_all(some(STANDARD / name, 5))


@pytest.mark.slow
@pytest.mark.skipif(not (STANDARD / "test").exists(), reason="no test package")
def test_pythons_own_test_data() -> None:
    names = "test_grammar test_fstring badsyntax_3131 bad_coding"
    check_all([p for n in names.split() for p in (STANDARD / "test").rglob(f"{n}*.py")])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["peft", "accelerate"])
def test_installed_packages(name: str) -> None:
    if not (SITE / name).exists():
        pytest.skip("not installed")
    check_all(some(SITE / name, 25))


def test_the_running_interpreter_is_among_the_supported() -> None:
    assert sys.version_info >= (3, 10)
