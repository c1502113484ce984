"""No shape of code makes the analysis grow without bound: it ends, and in silence."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fixtures.checking import check_paths
from trainlint.check import Checker, Plan, _Loader
from trainlint.files import Neighbourhood
from trainlint.rules import all_rules

PLAN = Plan(frozenset(rule.code for rule in all_rules()), (b"",))

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
    "a network of thousands of parts, with options": (
        "class B(nn.Module):\n"
        "    def __init__(self, **k):\n"
        "        super().__init__()\n"
        + times(20, "        self.a# = nn.Linear(2, 2) if k['#'] else nn.Dropout()\n")
        + "class M(nn.Module):\n"
        "    def __init__(self, k):\n"
        "        super().__init__()\n"
        + times(60, "        self.b# = B() if k.c# else None\n")
        + "    def fit(self, x):\n"
        "        self.eval()\n"
        "        for b in (self.b1, self.b2, self.b3):\n"
        "            x = b(x) if b.ready(x) else x\n"
        "        return x\n"
        "M(k).fit(x)"
    ),
    "an index of itself": "x = a\n" + "x = x[x]\n" * 40 + "x = x.a[x.b]\n" * 40,
    "a tuple of itself twice": "x = model\n" + "x = (x, x)\n" * 40 + "for m in x: m[0].eval()",
    "a list unpacked twice into the next": (
        "x = [model]\n" + "x = [*x, *x]\n" * 40 + "for m in x: m.eval()"
    ),
    "a zip of itself": ("x = [model]\n" + "x = list(zip(x, x))\n" * 40 + "for m in x: m[0].eval()"),
    "a container of one part twice": (
        "x = model\n" + "x = nn.Sequential(x, x)\n" * 40 + "x.eval()\nx.train()"
    ),
    "a list of one part twice": "x = model\n" + "x = nn.ModuleList([x, x])\n" * 40 + "x.eval()",
    "wrappers in wrappers": (
        "x = model\n" + "x = nn.parallel.DistributedDataParallel(x)\n" * 100 + "x.eval()"
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


def test_what_is_read_for_one_file_is_bounded(tmp_path: Path) -> None:
    """A package that gathers all its parts is not read as a whole for each of them."""
    filler = "def f#(model):\n    model.eval()\n    return ~\n"
    body = "".join(filler.replace("#", str(i)).replace("~", "1" * 200) for i in range(500))
    for number in range(40):
        (tmp_path / f"part{number}.py").write_text(
            f"import torch\nfrom part{number + 1} import f{number + 1}\n{body}"
            f"def g{number}(model):\n    f{number + 1}(model)\n"
        )
    program = tmp_path / "program.py"
    imports = "".join(f"from part{i} import f{i}\n" for i in range(40))
    calls = "".join(f"f{i}(model)\n" for i in range(40))
    program.write_text(HEAD + imports + calls + "model.backward()\n")
    checker = Checker(Neighbourhood())
    result = checker.check(str(program), PLAN)
    assert checker.parsed < _Loader.MAX_TEXT + 3 * len(body)
    assert any("more code" in note for note in result.notes)


def test_a_huge_neighbour_is_not_read(tmp_path: Path) -> None:
    """Whoever checked it before: what is found in a file does not depend on that."""
    huge = tmp_path / "huge.py"
    filler = "".join(f"case{i} = ['{'x' * 80}', {i}]\n" for i in range(7_000))
    huge.write_text(f"import torch\n{filler}def stop(model):\n    model.eval()\n")
    assert huge.stat().st_size > Checker.MAX_NEIGHBOUR
    program = tmp_path / "program.py"
    program.write_text(
        "from huge import stop\n" + HEAD + "stop(model)\nmodel.zero_grad()\nmodel(x).backward()\n"
    )
    checker = Checker(Neighbourhood())
    result = checker.check(str(program), PLAN)
    assert checker.parsed < 10_000
    assert any("too large" in note for note in result.notes)
    checker.check(str(huge), PLAN)
    again = checker.check(str(program), PLAN)
    assert again.diagnostics == result.diagnostics
    assert again.notes == result.notes
