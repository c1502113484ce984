"""The examples of the rules about several processes, on gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.truth.stage import examples, perform
from trainlint.rules.distributed.ddp_forward_bypassed import DdpForwardBypassed
from trainlint.rules.distributed.sampler_epoch_not_set import SamplerEpochNotSet

REPORT = """
weights = torch.cat([p.detach().flatten() for p in model.parameters()])
gathered = [torch.empty_like(weights) for _ in range(2)]
dist.all_gather(gathered, weights)
if dist.get_rank() == 0:
    print("equal" if torch.equal(*gathered) else "apart")
dist.destroy_process_group()
"""


def ranks_after(example: str, folder: Path, port: int) -> str:
    """Whether two processes hold equal weights after the example."""
    seeded = "import os, torch; torch.manual_seed(int(os.environ['RANK']))\n" + example
    program = folder / "example.py"
    program.write_text(seeded.replace("range(100)", "range(3)") + REPORT)
    ranks = []
    for rank in range(2):
        environment = os.environ | {
            "RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        }
        ranks.append(
            subprocess.Popen(
                [sys.executable, str(program)], env=environment, stdout=subprocess.PIPE, text=True
            )
        )
    outputs = [rank.communicate(timeout=120)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    return outputs[0].strip()


@pytest.mark.slow
def test_past_the_wrapper_the_ranks_drift_apart(tmp_path: Path, unused_port: int):
    bad, good = examples(DdpForwardBypassed)
    assert ranks_after(bad, tmp_path, unused_port) == "apart"
    assert ranks_after(good, tmp_path, unused_port) == "equal"


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_without_set_epoch_every_epoch_has_the_same_order():
    bad, good = examples(SamplerEpochNotSet)
    for example, orders in ((bad, 1), (good, 3)):
        names = perform(example, rounds=3).names
        sampler = names["sampler"]
        seen = set()
        for epoch in range(3):
            if orders > 1:
                sampler.set_epoch(epoch)
            seen.add(tuple(sampler))
        assert len(seen) == orders
        assert sampler.epoch == (0 if orders == 1 else 2)
    torch.manual_seed(0)
