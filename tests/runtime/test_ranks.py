"""Two gloo processes on one CPU host: what one of them does wrong is said by both, with no hang."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(case: str, timeout: str = "60") -> dict[int, str]:
    """Each rank's line of output."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TRAINLINT_RANK_TIMEOUT": timeout,
    }
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
        "--master-addr=127.0.0.1", f"--master-port={port}",
        "-m", "tests.runtime.ranks.train", case,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    found = {int(r): t for r, t in re.findall(r"RANK(\d) (.*?)(?=RANK\d|\n|$)", done.stdout)}
    assert len(found) == 2, done.stdout + done.stderr[-3000:]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("case", ["healthy", "inner", "ensemble"])
def test_healthy_ranks_are_silent(case: str) -> None:
    assert run(case) == {0: "silent", 1: "silent"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "code", "words"),
    [
        ("frozen", "TL603", "frozen on rank 1"),
        ("disturbed", "TL604", "differ"),
        ("bypass", "TL604", "differ"),
        ("converted", "TL604", "differ"),
        ("clip", "TL604", "differ"),
        ("lost", "TL604", "differ"),
    ],
)
def test_ranks_that_differ_are_named(case: str, code: str, words: str) -> None:
    found = run(case)
    for line in found.values():
        assert line.startswith(code), line
        assert words in line
        assert ".py:" in line


@pytest.mark.slow
@pytest.mark.parametrize("case", ["ddp lora", "ddp batchnorm", "fsdp2"])
def test_results_of_two_processes_are_bit_identical_with_and_without_a_watch(case: str) -> None:
    assert run(case) == {0: "silent", 1: "silent"}


def test_one_rank_in_eval_is_named_on_both() -> None:
    for line in run("eval").values():
        assert line.startswith("TL603")
        assert "in eval mode on rank 1" in line


def test_a_rank_that_leaves_early_is_named_and_nobody_hangs() -> None:
    found = run("leaves")
    assert found[0].startswith("TL603")
    assert "rank 1 left after step 1" in found[0]
    assert found[1] == "silent"


@pytest.mark.slow
def test_a_rank_that_does_not_arrive_is_named_after_the_deadline() -> None:
    start = time.monotonic()
    found = run("dies", timeout="2")
    assert found[0].startswith("TL603")
    assert "did not arrive within 0:00:02" in found[0]
    assert time.monotonic() - start < 60
