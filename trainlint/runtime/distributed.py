"""Do the ranks agree? A small exchange through the process group's store, never a collective.

A collective would have to be entered by all ranks in the same order as the training's own, and
hangs when a rank is missing. The store (which every process group has) takes a few bytes from each
rank and gives them to the others, on CPU, with a deadline.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.observation import Observation
from trainlint.runtime.report import grouped

_SAMPLED = 64
"""How many parameters' bytes enter the digest of weights."""
_DEADLINE = 60.0
_POLL = 0.02
_count = 0


class Ranks:
    """One watch's exchange with the same watch on the other ranks."""

    def __init__(self) -> None:
        global _count
        _count += 1
        self._name = f"trainlint/{_count}"
        self._rank = dist.get_rank()
        self._size = dist.get_world_size()
        self._deadline = float(os.environ.get("TRAINLINT_RANK_TIMEOUT", _DEADLINE))
        self._equal: bool | None = None
        self._silent = False
        base = dist.distributed_c10d._get_default_store()
        self._store: Any = dist.PrefixStore(self._name, base)

    def leave(self, steps: int) -> None:
        """Tell the others that this rank compares no more."""
        try:
            self._store.set(f"left/{self._rank}", str(steps))
        except Exception:
            return

    def compare(self, step: int, state: Observation, *, replicated: bool) -> list[Verdict]:
        """Every rank's digest against every other's; each rank gets the same verdict."""
        if self._silent:
            return []
        mine = _digest(state)
        try:
            self._store.set(f"{step}/{self._rank}", json.dumps(mine))
            others, lost = self._gather(step)
        except Exception as error:
            self._silent = True
            return [_unreachable(str(error).splitlines()[0])]
        if lost:
            self._silent = True
            return [self._absent(lost, step)]
        found = _disagreement(others)
        if found:
            return found
        return self._diverged(others, replicated)

    def _gather(self, step: int) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
        """All ranks' digests, or which ranks left or are late."""
        found: dict[int, dict[str, Any]] = {}
        lost: dict[int, str] = {}
        end = time.monotonic() + self._deadline
        waiting = set(range(self._size))
        while waiting:
            for rank in sorted(waiting):
                if self._store.check([f"{step}/{rank}"]):
                    found[rank] = json.loads(self._store.get(f"{step}/{rank}"))
                    waiting.discard(rank)
                elif self._store.check([f"left/{rank}"]):
                    steps = self._store.get(f"left/{rank}").decode()
                    if not self._store.check([f"{step}/{rank}"]):
                        lost[rank] = f"left after step {steps}"
                        waiting.discard(rank)
            if not waiting:
                break
            if time.monotonic() > end:
                waited = timedelta(seconds=round(self._deadline))
                lost.update(dict.fromkeys(waiting, f"did not arrive within {waited}"))
                break
            time.sleep(_POLL)
        return found, lost

    def _absent(self, lost: dict[int, str], step: int) -> Verdict:
        how = ", ".join(f"rank {rank} {why}" for rank, why in sorted(lost.items()))
        text = f"the ranks do not train in step: {how}, rank {self._rank} is at step {step + 1}"
        return Verdict("TL603", text, cause="absent")

    def _diverged(self, others: dict[int, dict[str, Any]], replicated: bool) -> list[Verdict]:
        weights = [others[rank]["weights"] for rank in sorted(others)]
        if any(w is None for w in weights):
            return []
        names = sorted({n for w in weights for n in w})
        differ = tuple(n for n in names if len({w.get(n) for w in weights}) > 1)
        first, self._equal = self._equal, not differ
        if not differ or not (replicated or first):
            return []
        text = f"parameters that should be equal on all ranks differ: {grouped(differ, names)}"
        advice = (
            "call the DistributedDataParallel wrapper itself, and do on every rank what changes "
            "gradients or weights"
        )
        return [Verdict("TL604", text, (), differ, help=advice, cause="weights")]


def _unreachable(why: str) -> Verdict:
    text = f"the ranks cannot be compared any more: a rank that hosts the exchange is gone ({why})"
    return Verdict("TL603", text, cause="absent")


def _digest(state: Observation) -> dict[str, Any]:
    flags = state.flags()
    return {
        "flags": hashlib.sha1(flags).hexdigest(),
        "eval": [state.modules[i][0] for i, flag in enumerate(flags) if not flag][:200],
        "trainable": hashlib.sha1("\n".join(_trainable(state)).encode()).hexdigest(),
        "frozen": [n for n, p in state.parameters if not p.requires_grad][:400],
        "adapters": [
            [a.name, str(a.enabled), str(a.active), str(a.merged), a.trainable.value]
            for a in state.adapters()
        ]
        if state.has_adapters
        else [],
        "weights": _weights(state),
    }


def _trainable(state: Observation) -> list[str]:
    return [n for n, p in state.parameters if p.requires_grad]


def _weights(state: Observation) -> dict[str, str] | None:
    """A checksum for each of some trainable parameters; None if they are sharded."""
    chosen = [(n, p) for n, p in state.parameters if p.requires_grad]
    if any(type(p.data) is not torch.Tensor for _, p in chosen[:4]):
        return None  # DTensor: every rank holds its own part
    if len(chosen) > _SAMPLED:
        stride = len(chosen) / _SAMPLED
        chosen = [chosen[int(i * stride)] for i in range(_SAMPLED)]
    return {n: _checksum(p) for n, p in chosen}


def _checksum(parameter: torch.Tensor) -> str:
    data = parameter.detach().flatten()[:4096].contiguous().cpu()
    return hashlib.sha1(data.view(torch.uint8).numpy().tobytes()).hexdigest()[:16]


def _disagreement(others: dict[int, dict[str, Any]]) -> list[Verdict]:
    """What differs between ranks that must not."""
    ranks = sorted(others)
    for key, listed, what in (
        ("flags", "eval", "in eval mode"),
        ("trainable", "frozen", "frozen"),
        ("adapters", "", ""),
    ):
        values = {json.dumps(others[rank][key]) for rank in ranks}
        if len(values) == 1:
            continue
        if not listed:
            text = "the ranks disagree on the adapters' status: " + "; ".join(
                f"rank {rank}: {others[rank][key]}" for rank in ranks
            )
            return [Verdict("TL603", text, cause="adapters")]
        sets = {rank: set(others[rank][listed]) for rank in ranks}
        common = set.intersection(*sets.values())
        odd = {rank: sorted(names - common) for rank, names in sets.items()}
        parts = [f"{grouped(names)} {what} on rank {rank}" for rank, names in odd.items() if names]
        every = tuple(dict.fromkeys(n for names in odd.values() for n in names))
        text = f"the ranks disagree: {'; '.join(parts)}, not on the others"
        modules, parameters = (every, ()) if key == "flags" else ((), every)
        return [Verdict("TL603", text, modules, parameters, cause=key)]
    return []
