"""The pre-commit door, with the real pre-commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TRAIN = """
import torch
from data import loader
from evaluation import evaluate

def train(loader):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for epoch in range(3):
        for x, y in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
        evaluate(model, loader)

train(loader)
"""

EVALUATE = """
import torch

@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    for x, _ in loader:
        print(model(x))
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_the_hook_installs_without_torch_and_fails_on_a_finding(tmp_path: Path) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".pre-commit-hooks.yaml"):
        shutil.copy(ROOT / name, hooks)
    shutil.copytree(
        ROOT / "trainlint", hooks / "trainlint", ignore=shutil.ignore_patterns("__pycache__")
    )
    git(hooks, "init", "-q")
    git(hooks, "add", "-A")
    git(hooks, "commit", "-q", "-m", "hooks")

    user = tmp_path / "user"
    user.mkdir()
    git(user, "init", "-q")
    (user / ".pre-commit-config.yaml").write_text(
        f"repos:\n- repo: {hooks}\n  rev: {git(hooks, 'rev-parse', 'HEAD')}\n"
        "  hooks:\n  - id: trainlint\n"
    )
    (user / "evaluation.py").write_text(EVALUATE)
    git(user, "add", "-A")
    git(user, "commit", "-q", "-m", "evaluation")
    (user / "train.py").write_text(TRAIN)
    git(user, "add", "-A")

    home = tmp_path / "home"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "GIT_DIR")}
    environment |= {"PRE_COMMIT_HOME": str(home), "PRE_COMMIT_COLOR": "never"}
    ran = subprocess.run(
        [sys.executable, "-m", "pre_commit", "run"],
        cwd=user,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "TL101 train-in-eval-mode" in ran.stdout
    assert "evaluation.py:6:5" in ran.stdout, "the file that the changed one calls is read"
    assert not list(home.rglob("site-packages/torch")), "the hook needs no torch"
    assert list(home.rglob("site-packages/libcst"))

    (user / "train.py").write_text(TRAIN.replace("for x, y", "model.train()\n        for x, y"))
    git(user, "add", "-A")
    again = [sys.executable, "-m", "pre_commit", "run"]
    healthy = subprocess.run(again, cwd=user, env=environment, capture_output=True, text=True)
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    assert "Passed" in healthy.stdout
