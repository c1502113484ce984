"""Run the contract tests against several versions of PEFT and print the result as Markdown.

Each version goes into a folder of its own that stands before the running environment's packages,
so that torch and transformers stay as they are: what differs is PEFT alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = "tests/contracts/test_peft.py"


def main() -> None:
    """Versions as arguments; without any, the oldest supported one and the installed one."""
    wanted = sys.argv[1:] or ["0.13.0", version("peft")]
    print("# For which versions of PEFT the claims hold\n")
    print(
        f"`{TESTS}` makes each real call on a tiny model and compares it with what the tables\n"
        "and the flow engine claim. Made by `scripts/peft_versions.py` on\n"
        f"{datetime.now(timezone.utc):%Y-%m-%d} with torch {version('torch')} and transformers\n"
        f"{version('transformers')}.\n"
    )
    print("| PEFT | hold | do not run or do not hold |")
    print("| --- | --- | --- |")
    for one in wanted:
        print(row(one), flush=True)


def row(wanted: str) -> str:
    """One version's line."""
    with tempfile.TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*install, "--target", folder, f"peft=={wanted}"], check=True)
        paths = os.pathsep.join((folder, str(ROOT)))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
    held = re.search(r"(\d+) passed", done.stdout)
    failed = re.findall(r"^FAILED \S+?::(.+?)(?: - (.*))?$", done.stdout, re.MULTILINE)
    names = "; ".join(name for name, _ in failed) or "none"
    return f"| {wanted} | {held.group(1) if held else 0} | {names} |"


if __name__ == "__main__":
    main()
