"""The pytest plugin, shown with pytester."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parents[2]

MODEL = """
import torch
from torch import nn

def parts():
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)

def train(model, optimizer):
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(2, 4)).sum().backward()
        optimizer.step()
"""


def _run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    pytester.makeconftest("")
    os.environ["PYTHONPATH"] = str(ROOT)
    extra = () if _installed() else ("-p", "trainlint.pytest_plugin")
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *extra, *arguments)


def _installed() -> bool:
    from importlib.metadata import entry_points

    return any(e.name == "trainlint" for e in entry_points(group="pytest11"))


def test_the_fixture_makes_watches_that_fail_a_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        MODEL
        + """
def test_healthy(trainlint_watch):
    model, optimizer = parts()
    with trainlint_watch(model, optimizer) as run:
        train(model, optimizer)
    assert run.report.steps == 3

def test_broken(trainlint_watch):
    model, optimizer = parts()
    model.eval()
    with trainlint_watch(model, optimizer=optimizer):
        train(model, optimizer)

def test_left_open(trainlint_watch):
    model, optimizer = parts()
    trainlint_watch(model).__enter__()
    train(model, optimizer)

def test_nothing_is_left_after_it():
    assert nn.Module.train.__name__ == "train" and not hasattr(nn.Module.train, "__wrapped__")
"""
    )
    result = _run(pytester)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*TL101*train-in-eval-mode*"])
    ours = [f"*trainlint{os.sep}runtime{os.sep}{name}.py:*" for name in ("watch", "patches")]
    for frame in ours:  # the traceback is of the user's frames
        result.stdout.no_fnmatch_line(frame)


def test_the_option_watches_every_training_step_of_every_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        MODEL
        + """
import pytest

def test_healthy():
    train(*parts())

def test_only_forward():
    model, _ = parts()
    with torch.no_grad():
        model(torch.randn(2, 4))

def test_broken():
    model, optimizer = parts()
    model.eval()
    train(model, optimizer)

@pytest.mark.trainlint(ignore=["TL101"])
def test_marked():
    model, optimizer = parts()
    model.eval()
    train(model, optimizer)
"""
    )
    _run(pytester).assert_outcomes(passed=4)
    result = _run(pytester, "--trainlint")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*TL101*"])


def test_a_wrong_marker_says_what_was_expected(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import pytest

@pytest.mark.trainlint("TL101")
def test_marked(trainlint_watch):
    pass
"""
    )
    result = _run(pytester)
    result.stdout.fnmatch_lines(["*expects `trainlint(ignore=*"])


def test_start_up_imports_neither_torch_nor_libcst() -> None:
    code = (
        "import sys, trainlint, trainlint.pytest_plugin; "
        "print(sorted({'torch', 'libcst', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
