"""What each of two gloo processes runs; the first argument names what goes wrong on rank 1."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.runtime.tiny import adamw, convnet, images, lora, loss_of
from trainlint.runtime import TrainingStateError, watch


def main(case: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    try:
        CASES[case](rank)
        print(f"RANK{rank} silent", flush=True)
    except TrainingStateError as error:
        found = error.violations[0]
        print(f"RANK{rank} {found.code} {found.where}: {found.message}", flush=True)
    dist.destroy_process_group()


def language(rank: int, broken: str) -> None:
    model = lora()
    wrapped = DistributedDataParallel(model)
    if rank == 1 and broken == "eval":
        model.eval()
    if rank == 1 and broken == "frozen":
        for p in model.parameters():
            p.requires_grad = False
        next(p for n, p in model.named_parameters() if "lora_A" in n).requires_grad = True
    optimizer = adamw(model)
    called = model if broken == "bypass" else wrapped
    watched = model if broken == "inner" else wrapped
    ignore = ["TL601", "TL414"] if broken == "bypass" else ["TL101", "TL414"]
    with watch(watched, optimizer, ignore=ignore):
        for step in range(5):
            optimizer.zero_grad()
            loss_of(called, 10 * rank + step).backward()
            if broken == "clip" and rank == 1:
                nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()
            if broken == "disturbed" and rank == 1 and step == 1:
                with torch.no_grad():
                    next(p for p in model.parameters() if p.requires_grad).add_(1.0)


def leaves(rank: int) -> None:
    model = convnet()
    optimizer = adamw(model)
    start = time.monotonic()
    with watch(model, optimizer):
        for step in range(1 if rank == 1 else 4):
            x, y = images(step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert time.monotonic() - start < 30


def dies(rank: int) -> None:
    model = convnet()
    optimizer = adamw(model)
    with watch(model, optimizer):
        for step in range(4):
            if rank == 1 and step == 1:
                time.sleep(8)
                return
            x, y = images(step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()


def ensemble(rank: int) -> None:
    """One model per rank by design: not replicas, and nothing to say."""
    model = convnet()
    with torch.no_grad():
        model.head.weight.add_(rank)
    optimizer = adamw(model)
    with watch(model, optimizer):
        for step in range(4):
            x, y = images(step + 10 * rank)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()


def converted(rank: int) -> None:
    """DDP's hooks are lost when its parameters are converted: PT-104336."""
    model = convnet()
    wrapped = DistributedDataParallel(model)
    wrapped.double().float()
    optimizer = adamw(model)
    with watch(wrapped, optimizer):
        for step in range(5):
            x, y = images(step + 10 * rank)
            optimizer.zero_grad()
            nn.functional.cross_entropy(wrapped(x), y).backward()
            optimizer.step()


def lost(rank: int) -> None:
    """What rank 1 receives is lost on the way: PT-84803, PT-96600, Baichuan2-86."""
    model = convnet()
    wrapped = DistributedDataParallel(model)

    def averaged(state, bucket):  # type: ignore[no-untyped-def]  # DDP reads the annotations
        future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
        return future.then(lambda done: done.value()[0] * (0.0 if rank == 1 else 0.5))

    wrapped.register_comm_hook(None, averaged)
    train_images(wrapped, rank, watched=True)


def train_images(model: nn.Module, rank: int, *, watched: bool) -> torch.optim.Optimizer:
    """A few steps with an evaluation in between, other batches on each rank."""
    optimizer = adamw(model)
    with watch(model, optimizer) if watched else contextlib.nullcontext():
        for step in range(6):
            if step == 3:
                model.eval()
                with torch.no_grad():
                    model(images(40 + rank)[0])
                model.train()
            x, y = images(step + 10 * rank)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return optimizer


def train_language(model: nn.Module, rank: int, *, watched: bool) -> torch.optim.Optimizer:
    optimizer = adamw(model)
    with watch(model, optimizer) if watched else contextlib.nullcontext():
        for step in range(4):
            optimizer.zero_grad()
            loss_of(model, step + 10 * rank).backward()
            optimizer.step()
    return optimizer


def sharded(model: nn.Module) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    for child in model.children():
        fully_shard(child, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def dropping() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.1)), nn.Linear(8, 3)
    )


def identical(rank: int, build: Callable[[], nn.Module], train: Callable[..., Any]) -> None:
    """Every bit as without a watch: weights, buffers, gradients, optimizer and random state."""

    def run(watched: bool) -> list[torch.Tensor]:
        model = build()
        torch.manual_seed(7 + rank)
        optimizer = train(model, rank, watched=watched)
        found = [*model.state_dict().values(), torch.get_rng_state()]
        found += [p.grad for p in model.parameters() if p.grad is not None]
        states = optimizer.state_dict()["state"].values()
        found += [v for state in states for v in state.values() if isinstance(v, torch.Tensor)]
        return [getattr(t, "_local_tensor", t).detach().clone() for t in found]

    bare, watched = run(False), run(True)
    assert len(bare) == len(watched) > 8
    assert all(torch.equal(a, b) for a, b in zip(bare, watched, strict=True))


IDENTICAL = {
    "ddp lora": (lambda: DistributedDataParallel(lora()), train_language),
    "ddp batchnorm": (lambda: DistributedDataParallel(convnet()), train_images),
    "fsdp2": (lambda: sharded(dropping()), train_images),
}

CASES = {
    **{
        name: (lambda rank, parts=parts: identical(rank, *parts))
        for name, parts in IDENTICAL.items()
    },
    "lost": lost,
    **{
        case: (lambda rank, case=case: language(rank, case))
        for case in ("healthy", "inner", "eval", "frozen", "disturbed", "bypass", "clip")
    },
    "leaves": leaves,
    "dies": dies,
    "ensemble": ensemble,
    "converted": converted,
}

if __name__ == "__main__":
    main(sys.argv[1])
