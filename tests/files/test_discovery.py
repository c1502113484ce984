"""Which files a run checks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest

import trainlint


def files(project, *arguments: str) -> list[str]:
    ran = project.run("check", "--show-files", *arguments)
    assert ran.status == 0, ran.err
    return [os.path.relpath(line, project.root) for line in ran.out.splitlines()]


def test_python_stubs_and_notebooks_below_a_folder_sorted(project) -> None:
    for name in ("b.py", "a/c.pyi", "a/n.ipynb", "a/x.txt", "README.md", "py"):
        project.write(name)
    assert files(project) == ["a/c.pyi", "a/n.ipynb", "b.py"]


def test_a_named_file_is_checked_whatever_its_name(project) -> None:
    project.write("script")
    assert files(project, "script") == ["script"]


def test_each_file_once(project) -> None:
    project.write("a/b.py")
    assert files(project, "a", ".", "a/b.py", "./a/../a/b.py") == ["a/b.py"]


def test_the_default_excludes(project) -> None:
    for folder in (".venv", "node_modules", "build", ".git", "site-packages", "__pycache__"):
        project.write(f"{folder}/a.py")
    project.write("a.py")
    assert files(project) == ["a.py"]


def test_a_named_folder_is_checked_though_its_name_is_excluded(project) -> None:
    project.write("site-packages/lib/a.py")
    project.write("build/b.py")
    assert files(project, "site-packages", "build") == ["build/b.py", "site-packages/lib/a.py"]


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        pytest.param("a.py", ["sub/b.py", "sub/deep/c.py"], id="a name anywhere"),
        pytest.param("sub", ["a.py"], id="a folder"),
        pytest.param("sub/", ["a.py"], id="a folder with a slash"),
        pytest.param("sub/deep", ["a.py", "sub/b.py"], id="a path"),
        pytest.param("deep", ["a.py", "sub/b.py"], id="a folder further down"),
        pytest.param("sub/*.py", ["a.py"], id="a star crosses folders, as in ruff"),
        pytest.param("**/c.py", ["a.py", "sub/b.py"], id="two stars"),
        pytest.param("**/a.py", ["sub/b.py", "sub/deep/c.py"], id="two stars stand for none, too"),
        pytest.param("[ab].py", ["sub/deep/c.py"], id="a class"),
        pytest.param("?.py", [], id="a question mark"),
        pytest.param("b.p", ["a.py", "sub/b.py", "sub/deep/c.py"], id="the whole name"),
    ],
)
def test_exclude_patterns(project, pattern: str, left: list[str]) -> None:
    for name in ("a.py", "sub/b.py", "sub/deep/c.py"):
        project.write(name)
    assert files(project, "--exclude", pattern) == left
    project.write("trainlint.toml", f"extend-exclude = ['{pattern}']")
    assert files(project) == left


def test_exclude_replaces_and_extend_exclude_adds(project) -> None:
    for name in ("a.py", "b.py", "venv/c.py"):
        project.write(name)
    assert files(project, "--exclude", "a.py") == ["b.py", "venv/c.py"]
    assert files(project, "--extend-exclude", "a.py") == ["b.py"]
    project.write("trainlint.toml", "exclude = ['b.py']")
    assert files(project) == ["a.py", "venv/c.py"]


def test_named_files_are_excluded_only_by_force(project) -> None:
    project.write("venv/a.py")
    project.write("b.py")
    assert files(project, "venv/a.py", "b.py") == ["b.py", "venv/a.py"]
    assert files(project, "--force-exclude", "venv/a.py", "b.py") == ["b.py"]


def test_excludes_above_the_project_do_not_count(project, monkeypatch) -> None:
    project.write("build/inner/a.py")
    monkeypatch.chdir(project.root / "build" / "inner")
    ran = project.run("check", "--show-files", "--force-exclude", "a.py")
    assert ran.out.endswith("a.py\n")


class TestGitignore:
    @pytest.fixture(autouse=True)
    def some_files(self, project) -> None:
        (project.root / ".git").mkdir()
        for name in ("a.py", "gen/b.py", "gen/keep.py", "sub/c.py", "sub/d.py"):
            project.write(name)

    def test_is_respected(self, project) -> None:
        project.write(".gitignore", "gen/\n*.pyc\n")
        assert files(project) == ["a.py", "sub/c.py", "sub/d.py"]

    def test_or_not(self, project) -> None:
        project.write(".gitignore", "gen/\n")
        assert "gen/b.py" in files(project, "--no-respect-gitignore")

    def test_negated(self, project) -> None:
        project.write(".gitignore", "gen/*\n!gen/keep.py\n")
        assert files(project, "gen") == ["gen/keep.py"]

    def test_an_inner_one_decides(self, project) -> None:
        project.write(".gitignore", "c.py\n")
        project.write("sub/.gitignore", "!c.py\nd.py\n")
        assert files(project, "sub") == ["sub/c.py"]

    def test_one_above_the_named_folder_counts(self, project) -> None:
        project.write(".gitignore", "/sub/c.py\n")
        assert files(project, "sub") == ["sub/d.py"]

    def test_a_named_folder_that_is_ignored_itself_is_checked(self, project) -> None:
        project.write(".gitignore", "gen/\n")
        assert files(project, "gen") == ["gen/b.py", "gen/keep.py"]

    def test_a_named_file_is_checked(self, project) -> None:
        project.write(".gitignore", "a.py\n")
        assert files(project, "a.py") == ["a.py"]

    def test_a_bad_pattern_does_no_harm(self, project) -> None:
        project.write(".gitignore", b"gen/\n!\n\xff\xfe\n[\n")
        assert files(project) == ["a.py", "sub/c.py", "sub/d.py"]


class TestLinks:
    def test_loops_are_not_followed(self, project) -> None:
        project.write("a/b.py")
        os.symlink("..", project.root / "a" / "up")
        os.symlink("self", project.root / "self")
        assert files(project) == ["a/b.py"]

    def test_a_link_to_a_file_is_checked(self, project) -> None:
        project.write("a.py")
        os.symlink("a.py", project.root / "b.py")
        assert files(project) == ["a.py", "b.py"]

    def test_a_named_link_to_a_folder_is_followed(self, project) -> None:
        project.write("a/b.py")
        os.symlink("a", project.root / "link")
        assert files(project, "link") == ["link/b.py"]

    def test_dead_links_and_pipes_are_passed_over(self, project) -> None:
        os.symlink("nowhere.py", project.root / "dead.py")
        os.mkfifo(project.root / "pipe.py")
        assert files(project) == []


def test_names_that_are_no_text(project) -> None:
    (project.root / os.fsdecode(b"\xff.py")).write_text("def (\n")
    (project.root / "new\nline.py").write_text("def (\n")
    ran = project.run("check", "--output-format", "concise")
    assert {line.split(":")[0] for line in ran.out.splitlines()} == {"\ufffd.py", "new\\nline.py"}
    assert len(project.check().json) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_folder_without_permission_is_reported_and_the_others_checked() -> None:
    script = (
        "import os\n"
        "from trainlint.cli import main\n"
        # All that a run imports, while the installation can still be read.
        "import difflib, trainlint.flow, trainlint.output.text, trainlint.runner, trainlint.workers\n"
        "import trainlint.syntax.parse, trainlint.rules; trainlint.rules.all_rules()\n"
        "os.geteuid() == 0 and os.seteuid(65534)\n"
        "main(['check', '--no-cache', '--output-format', 'concise'])\n"
    )
    here = os.path.dirname(os.path.dirname(trainlint.__file__))
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # pytest's own temporary folders are closed to others
        closed = os.path.join(folder, "closed")
        os.mkdir(closed, 0)
        with open(os.path.join(folder, "b.py"), "w") as file:
            file.write("def (\n")
        ran = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": here},
        )
    assert "b.py:1:5: TL001" in ran.stdout
    assert "closed:1:1: TL002 the folder cannot be read: permission denied" in ran.stdout
    assert ran.returncode == 1


def test_a_broken_configuration_beside_what_is_checked_harms_nothing(project) -> None:
    """What a file is called from is looked for in the whole project."""
    project.write("pyproject.toml")
    project.write("other/trainlint.toml", "seelct = []\n")
    project.write("other/caller.py", "from train import fit\n")
    project.write("train.py", "def fit(model):\n    model.train()\n    model(x).backward()\n")
    checked = project.check("train.py")
    assert checked.status == 0
    assert "internal" not in checked.err
    assert project.check(".").status == 2
