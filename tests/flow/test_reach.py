"""Which functions are run on their own account: those whose names lead to a step of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainlint.check import Checker, _Loader
from trainlint.files import Neighbourhood
from trainlint.flow import ir
from trainlint.flow.project import Project
from trainlint.flow.reach import Reach

STEP = "def step(model):\n    model(x).backward()\n"


def reaches(folder: Path, files: dict[str, str], name: str = "start") -> bool:
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    checker = Checker(Neighbourhood())
    lowered = checker.load(str(folder / "entry.py"))
    assert lowered is not None
    info = Project(_Loader(checker, lowered)).add(lowered.module)
    functions = [
        *(b for b in info.bindings.values() if isinstance(b, ir.Function)),
        *(f for b in info.bindings.values() if isinstance(b, ir.Class) for f in b.body),
    ]
    found = [f for f in functions if isinstance(f, ir.Function) and f.name == name]
    return Reach().matters(found[0], info)


START = "def start(model):\n    run(model)\n"
CLASS = "class T:\n    def start(self):\n        self.go()\n"


@pytest.mark.parametrize(
    "files",
    [
        {"entry.py": STEP.replace("step", "start")},
        {"entry.py": f"{STEP}def run(m):\n    step(m)\n{START}"},
        {"entry.py": f"{STEP}run = partial(step, 1)\n{START}"},
        {"entry.py": f"from other import run\n{START}", "other.py": STEP.replace("step", "run")},
        {
            "entry.py": f"from other import go as run\n{START}",
            "other.py": f"{STEP}def go(m):\n    step(m)\n",
        },
        {
            "entry.py": f"from engine import run\n{START}",
            "engine/__init__.py": "from .loop import step as run\n",
            "engine/loop.py": STEP,
        },
        {"entry.py": "import other\ndef start(m):\n    other.step(m)\n", "other.py": STEP},
        {"entry.py": f"from other import *\n{START}", "other.py": STEP.replace("step", "run")},
        {"entry.py": f"{CLASS}    def go(self):\n        self.loss.backward()\n"},
        {
            "entry.py": f"{CLASS}    def __init__(self):\n        self.go = self.fit_once\n"
            "    def fit_once(self):\n        self.loss.backward()\n"
        },
        {
            "entry.py": "from other import T\ndef start():\n    T().once()\n",
            "other.py": "class T:\n    def once(self):\n        loss.backward()\n",
        },
        {
            "entry.py": "from other import RUNS\ndef start(m):\n    RUNS['a'](m)\n",
            "other.py": f"{STEP}RUNS = {{'a': step}}\n",
        },
        {
            "entry.py": "from other import RUNS\ndef start(m):\n    RUNS.make('a')(m)\n",
            "other.py": f"RUNS = Registry()\n@RUNS.register\n{STEP}",
        },
    ],
)
def test_what_leads_to_a_step_is_run(tmp_path: Path, files: dict[str, str]) -> None:
    assert reaches(tmp_path, files)


@pytest.mark.parametrize(
    "files",
    [
        {"entry.py": f"def run(m):\n    return m(x)\n{START}"},
        {"entry.py": f"{STEP}def run(m):\n    return m(x)\n{START}"},
        {
            "entry.py": f"from other import run\n{START}",
            "other.py": f"{STEP}def run(m):\n    'call step() and backward() after'\n",
        },
        {"entry.py": f"from os.path import join as run\n{START}"},
        {"entry.py": f"from other import *\n{START}", "other.py": "def run(m): ...\n"},
        {"entry.py": f"{CLASS}    def go(self):\n        return self.net(x)\n"},
        {"entry.py": "import other\ndef start(m):\n    other.scale(m)\n", "other.py": STEP},
        {"entry.py": "from torch import Tensor\ndef start(x: int):\n    return Tensor(x)\n"},
        {"entry.py": "def start(name):\n    with no_grad():\n        return from_config(name)\n"},
    ],
)
def test_what_only_computes_is_not(tmp_path: Path, files: dict[str, str]) -> None:
    assert not reaches(tmp_path, files)
