"""Run the contract tests against several versions of PEFT and print the result as Markdown.

Each version gets a virtual environment of its own. What it does not bring itself, torch and
transformers among it, comes from the running environment, so that what differs is PEFT alone.
"""

from __future__ import annotations

import os
import re
import site
import subprocess
import sys
import sysconfig
import tempfile
import venv
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("tests/contracts/test_peft.py",)


def main() -> None:
    """Versions as arguments; without any, the oldest supported one and the installed one."""
    wanted = sys.argv[1:] or ["0.10.0", "0.13.0", version("peft")]
    print("# For which versions of PEFT the claims hold\n")
    print(
        f"`{TESTS[0]}` makes each real call on a tiny model and compares it with what the tables\n"
        "and the flow engine claim. Made by `scripts/peft_versions.py` on\n"
        f"{datetime.now(timezone.utc):%Y-%m-%d} with torch {version('torch')} and transformers\n"
        f"{version('transformers')}, each version in a virtual environment of its own.\n"
    )
    print("| PEFT | hold | do not run or do not hold |")
    print("| --- | --- | --- |")
    for one in wanted:
        print(row(one), flush=True)


def row(wanted: str) -> str:
    """One version's line."""
    with tempfile.TemporaryDirectory() as folder:
        python = environment(Path(folder), wanted)
        done = subprocess.run(
            [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    held = re.search(r"(\d+) passed", done.stdout)
    failed = re.findall(r"^FAILED \S+?::(.+?)(?: - (.*))?$", done.stdout, re.MULTILINE)
    names = "; ".join(name for name, _ in failed) or "none"
    return f"| {wanted} | {held.group(1) if held else 0} | {names} |"


def environment(folder: Path, wanted: str) -> str:
    """The Python of a new virtual environment that has this version and sees what runs this."""
    venv.create(folder, with_pip=True)
    own = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", vars=own))
    (packages / "outer.pth").write_text("\n".join(site.getsitepackages()))
    python = str(Path(sysconfig.get_path("scripts", vars=own)) / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", f"peft=={wanted}"]
    subprocess.run(install, check=True)
    ask = [python, "-c", "from importlib.metadata import version; print(version('peft'))"]
    there = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    assert there == wanted, there
    return python


if __name__ == "__main__":
    main()
