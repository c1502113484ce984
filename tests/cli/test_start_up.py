"""What a start loads. What it costs is measured in `benchmarks/check.py`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "peft", "transformers", "libcst", "lightning", "accelerate", "yaml", "pathspec")


def loaded(code: str, cwd: object = None) -> set[str]:
    """The modules that some code loads in a process of its own."""
    script = f"{code}\nimport sys; print('\\n'.join(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=cwd, env=environment()
    )
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split())


def environment() -> dict[str, str]:
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return {**os.environ, "PYTHONPATH": here, "PYTHONDONTWRITEBYTECODE": ""}


RUN = (
    "from trainlint.cli import main\n"
    "import contextlib\n"
    "with contextlib.suppress(SystemExit): main(['check', '-q', '--output-format', 'json'])\n"
)


@pytest.mark.parametrize("module", ["trainlint", "trainlint.cli", "trainlint.pytest_plugin"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    assert not loaded(f"import {module}") & set(HEAVY)


def test_the_measure_can_fail() -> None:
    assert "libcst" in loaded("import trainlint.syntax.parse")


def test_checking_loads_no_torch(tmp_path) -> None:
    (tmp_path / "a.py").write_text("import torch\nmodel = torch.nn.Linear(1, 1)\nmodel.eval\n")
    found = loaded(RUN, tmp_path)
    assert "libcst" in found
    assert not found & {"torch", "peft", "transformers"}


def test_a_warm_run_loads_neither_libcst_nor_the_rules(tmp_path) -> None:
    (tmp_path / "a.py").write_text("import torch\nmodel = torch.nn.Linear(1, 1)\nmodel.eval\n")
    loaded(RUN, tmp_path)
    found = loaded(RUN, tmp_path)
    assert not found & {*HEAVY, "trainlint.rules", "trainlint.flow", "trainlint.workers"}


def test_a_file_that_passes_no_gate_loads_no_libcst(tmp_path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    assert "libcst" not in loaded(RUN, tmp_path)
