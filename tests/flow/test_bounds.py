"""No shape of code makes the analysis grow without bound: it ends, and in silence."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fixtures.checking import check_paths

HEAD = "import torch\nfrom torch import nn\nmodel = nn.Linear(2, 2)\n"


def times(count: int, template: str, between: str = "") -> str:
    """`template` that often, with each `#` replaced by the number and each `~` by the one before."""
    parts = (template.replace("#", str(i)).replace("~", str(i - 1)) for i in range(1, count + 1))
    return between.join(parts)


SHAPES = {
    "conditional items of a list": "x = [" + times(150, "'a' if c# else None", ", ") + "]",
    "conditional keywords": f"f({times(150, 'k#=model if c# else None', ', ')})",
    "a test of many alternatives": f"if {times(150, '(a# or b#)', ' and ')}: model.eval()",
    "a chain of calls": f"x = y{times(40, '.m#(a# if c# else model)')}",
    "calls within calls": f"x = {times(40, 'f#(a# if c# else b#, ')}model{')' * 40}",
    "functions that call one another twice": (
        "def f0(m):\n    m.eval()\n"
        + times(30, "def f#(m):\n    return f~(m if a# else None) or f~(m)\n")
        + "f30(model)"
    ),
    "modules that hold two of one another": (
        "class M0(nn.Module):\n    pass\n"
        + times(
            25,
            "class M#(nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.a = M~()\n"
            "        self.b = M~()\n",
        )
        + "M25().eval()"
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_analysis_ends(shape: str, tmp_path: Path) -> None:
    # Exponential growth would take hours and gigabytes: the bound is no measure of speed.
    program = tmp_path / "program.py"
    program.write_text(HEAD + SHAPES[shape] + "\n")
    start = time.process_time()
    assert check_paths([program]) == []
    assert time.process_time() - start < 60
