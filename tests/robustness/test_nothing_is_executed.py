"""`check` reads code; it never runs or imports it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TELLTALE = "open({path!r}, 'w').write('ran')\n"


def test_no_file_of_the_project_is_imported_or_run(project) -> None:
    told = project.root / "told"
    code = TELLTALE.format(path=str(told))
    # Names that trainlint, its dependencies or an unwary import machinery might pick up.
    for name in (
        "train.py",
        "helper.py",
        "conftest.py",
        "sitecustomize.py",
        "libcst.py",
        "click.py",
        "json.py",
        "torch/__init__.py",
        "trainlint_plugin.py",
        "encodings.py",
    ):
        project.write(name, f"{code}import helper, torch\nmodel.eval\nmodel.train()\n")
    project.write("setup.py", code)
    project.write("pyproject.toml", "[tool.trainlint]\nselect = ['ALL']\n")
    project.write("coded.py", f"# coding: helper\n{code}")
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "trainlint", "check", "."]
        if sys.version_info >= (3, 11)
        else ["trainlint", "check", "."],
        cwd=project.root,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1, ran.stderr
    assert not told.exists()


def test_the_cache_holds_nothing_that_is_unpickled() -> None:
    import trainlint.cache
    import trainlint.files

    for module in (trainlint.cache, trainlint.files):
        source = Path(module.__file__).read_text()
        for word in ("pickle", "marshal", "eval(", "exec(", "shelve"):
            assert word not in source.replace("model.eval(", "")
