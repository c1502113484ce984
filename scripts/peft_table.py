"""Print what a watch says of every PEFT type under every fault, as a Markdown table."""

from __future__ import annotations

import sys
import warnings
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from tests.runtime.peft_faults import FAULTS, healthy, verdict
from tests.runtime.zoo import ZOO


def main() -> None:
    """One row a type, one column a fault."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print("# What `watch` says of every PEFT type\n")
    print(
        "Each fault is injected into a two-layer Llama with that adapter; the cell is the code\n"
        "that the run reports (`-`: the fault does not apply to the type). `healthy` is a run of\n"
        "20 steps with an evaluation in between, saving, loading and merging at the end. Made by\n"
        f"`scripts/peft_table.py` with peft {_version('peft')} and torch {torch.__version__},\n"
        f"{date.today().isoformat()}.\n"
    )
    print("| type | healthy | " + " | ".join(FAULTS) + " |")
    print("| --- " * (len(FAULTS) + 2) + "|")
    for kind in ZOO:
        quiet = not healthy(kind, 20).violations
        cells = [verdict(kind, name) or "(nothing)" for name in FAULTS]
        print(f"| {kind} | {'silent' if quiet else 'NOT SILENT'} | " + " | ".join(cells) + " |")


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


if __name__ == "__main__":
    main()
