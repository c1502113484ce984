"""The cache never changes what is reported, and never gets in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainlint import cache, check, files

DEFECT = "model.eval\n"


@pytest.fixture(autouse=True)
def settled(monkeypatch) -> None:
    """Files need not lie untouched for two seconds before their times are trusted."""
    monkeypatch.setattr(cache, "_SETTLED", -(10**12))
    monkeypatch.setattr(files, "SETTLED", -(10**12))


@pytest.fixture
def looked_at(monkeypatch, plain_flow) -> list[str]:
    """The files that were interpreted, by name."""
    names: list[str] = []

    def interpret(lowered, *rest):
        names.append(os.path.basename(lowered.source.path))
        return plain_flow(lowered, *rest)

    monkeypatch.setattr(check, "interpret", interpret)
    return names


def books(project) -> list[Path]:
    folder = project.root / ".trainlint_cache"
    return [p for p in folder.rglob("*.json") if "catalogue" not in p.name]


def rewrite(path: Path, text: str) -> None:
    """Change a file and leave its modification time as it was."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_unchanged_file_is_not_looked_at_again(project, looked_at) -> None:
    project.write("a.py", DEFECT)
    first = project.check()
    assert looked_at == ["a.py"]
    second = project.check()
    assert looked_at == ["a.py"]
    assert second == first
    assert len(first.json) == 1


def test_everything_a_diagnostic_has_survives(project, looked_at) -> None:
    project.write("b.py", "x = 1\n")
    project.write("a.py", f"import b\n{DEFECT}")
    project.notebook("n.ipynb", "1", "model.eval\n2")
    runs = [project.run("check", "--output-format", f).out for f in ("full", "json") * 2]
    assert runs[:2] == runs[2:]
    assert looked_at == ["a.py", "n.ipynb"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda p: p.write("a.py", "x.eval; y.eval\n"), id="content"),
        pytest.param(lambda p: rewrite(p.root / "a.py", "modem.eval\n"), id="same size and time"),
        pytest.param(lambda p: p.write("trainlint.toml", "select = ['TL103']\n"), id="settings"),
        pytest.param(
            lambda p: p.write("trainlint.toml", "[semantics]\nmodel-factories = ['a.b']\n"),
            id="semantics",
        ),
    ],
)
def test_a_change_is_seen(project, looked_at, change) -> None:
    project.write("trainlint.toml", "")
    project.write("a.py", DEFECT)
    project.check()
    del looked_at[:]
    change(project)
    project.check()
    assert looked_at == ["a.py"]


def test_a_touched_file_of_the_same_content_is_not_looked_at_again(project, looked_at) -> None:
    path = project.write("a.py", DEFECT)
    project.check()
    os.utime(path)
    assert project.check().codes == ["TL103"]
    assert looked_at == ["a.py"]


def test_a_change_within_the_clocks_tick_is_seen(project, looked_at, monkeypatch) -> None:
    monkeypatch.setattr(cache, "_SETTLED", 2_000_000_000)
    path = project.write("a.py", DEFECT)
    project.check()
    stamp = cache.Stamp.of(path.stat())
    path.write_text("model.eva1\n")
    monkeypatch.setattr(cache.Stamp, "of", classmethod(lambda cls, status: stamp))
    assert project.check().json == []


class TestOtherFiles:
    @pytest.fixture(autouse=True)
    def caller(self, project, looked_at) -> None:
        project.write("pyproject.toml", "")
        project.write("a.py", f"import b\n{DEFECT}")
        project.write("b.py", "x = 1\n")
        project.check("a.py")
        del looked_at[:]

    def row(self, project) -> int:
        return project.check("a.py").json[0]["related"][0]["location"]["row"]

    def test_unchanged(self, project, looked_at) -> None:
        assert self.row(project) == 1
        assert looked_at == []

    def test_in_a_project_that_is_too_large_to_be_listed(
        self, project, looked_at, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("trainlint.files._MAX_LISTED", 1)
        assert self.row(project) == 1
        assert looked_at == []
        project.write("b.py", "\n\nx = 1\n")
        assert self.row(project) == 3

    def test_a_changed_callee(self, project, looked_at) -> None:
        project.write("b.py", "\n\nx = 1\n")
        assert self.row(project) == 3
        assert looked_at == ["a.py"]

    def test_a_changed_callee_of_the_same_size_and_time(self, project) -> None:
        rewrite(project.root / "b.py", "\nx= 1\n")
        assert self.row(project) == 2

    def test_a_removed_callee(self, project) -> None:
        (project.root / "b.py").unlink()
        assert project.check("a.py").json[0]["related"] == []

    def test_a_new_file_of_that_name_that_wins(self, project) -> None:
        project.write("b/__init__.py", "\nx = 1\n")
        assert self.row(project) == 2

    def test_a_file_that_was_missing(self, project, looked_at) -> None:
        project.write("c.py", f"import d\n{DEFECT}")
        assert project.check("c.py").json[0]["related"] == []
        project.write("d.py", "x = 1\n")
        assert len(project.check("c.py").json[0]["related"]) == 1


def test_who_mentions_a_name_counts(project, monkeypatch) -> None:
    answers: list[bool] = []

    def interpret(lowered, loader, plan):
        answers.append(loader.mentioned_elsewhere("helper", lowered.source.path))
        return [], ()

    monkeypatch.setattr(check, "interpret", interpret)
    project.write("pyproject.toml", "")
    project.write("a.py", "def helper(): model.eval\n")
    project.write("c.py", "x = 1\n")
    project.check("a.py")
    project.check("a.py")
    assert answers == [False]
    project.write("c.py", "x = 2\n")
    project.check("a.py")
    assert answers == [False], "a change that does not touch the answer"
    project.write("c.py", "import a\na.helper()\n")
    project.check("a.py")
    assert answers == [False, True]


def test_a_broken_file_is_remembered_and_its_mending_seen(project, looked_at) -> None:
    project.write("a.py", "def (\n")
    assert project.check().codes == project.check().codes == ["TL001"]
    project.write("a.py", DEFECT)
    assert project.check().codes == ["TL103"]


class TestDamage:
    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"\x00\xff", id="binary"),
            pytest.param(b"[" * 100_000, id="deep"),
            pytest.param(b"[]", id="a list"),
            pytest.param(b'{"format": 1, "entries": []}', id="wrong entries"),
            pytest.param(b'{"format": 99, "entries": {}}', id="another format"),
            pytest.param(b'{"format": 1, "entries": {"a.py": []}}', id="a short row"),
            pytest.param(b'{"format": 1, "entries": {"a.py": [1, 2, 3, 4]}}', id="a wrong row"),
        ],
    )
    def test_is_ignored_and_mended(self, project, looked_at, damage: bytes) -> None:
        project.write("a.py", DEFECT)
        first = project.check()
        for book in books(project):
            book.write_bytes(damage)
        assert project.check() == first
        assert looked_at == ["a.py", "a.py"]
        assert project.check() == first
        assert looked_at == ["a.py", "a.py"]

    @pytest.mark.parametrize("cut", [10, 100, -1, -20])
    def test_half_a_file(self, project, looked_at, cut: int) -> None:
        project.write("a.py", DEFECT)
        first = project.check()
        for book in books(project):
            book.write_bytes(book.read_bytes()[:cut])
        assert project.check() == first

    @pytest.mark.parametrize("place", range(12))
    def test_any_field_of_an_entry(self, project, looked_at, place: int) -> None:
        project.write("b.py", "x = 1\n")
        project.write("a.py", f"import b\n{DEFECT}")
        first = project.check()
        (book,) = books(project)
        document = json.loads(book.read_text())
        entry = document["entries"]["a.py"]
        target = entry if place < 4 else entry[3]
        target[place % 4 if place < 4 else place - 4] = {"wrong": None}
        book.write_text(json.dumps(document))
        assert project.check() == first

    def test_of_the_catalogue(self, project, looked_at) -> None:
        project.write("a.py", DEFECT)
        first = project.check()
        for file in (project.root / ".trainlint_cache").rglob("catalogue*.json"):
            file.write_text("[[1, 2]]")
        assert project.check() == first


class TestTrouble:
    def test_it_has_a_gitignore_of_its_own(self, project) -> None:
        project.write("a.py", "x = 1\n")
        project.check()
        assert (project.root / ".trainlint_cache/.gitignore").read_text().endswith("*\n")

    def test_without_a_place_to_write_it_works_and_says_so_once(self, project, looked_at) -> None:
        project.write("a.py", DEFECT)
        project.write("file")
        ran = project.check("--cache-dir", "file/cache")
        assert ran.codes == ["TL103"]
        assert ran.err.count("the cache cannot be written") == 1

    def test_a_full_disk(self, project, looked_at, monkeypatch) -> None:
        def full(path: str, data: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(cache, "write_atomically", full)
        project.write("a.py", DEFECT)
        ran = project.check()
        assert (ran.status, ran.codes) == (1, ["TL103"])
        assert ran.err.count("no space left on device") == 1

    def test_no_cache(self, project, looked_at) -> None:
        project.write("a.py", DEFECT)
        project.check("--no-cache")
        assert not (project.root / ".trainlint_cache").exists()

    def test_another_place(self, project, looked_at) -> None:
        project.write("a.py", DEFECT)
        project.check("--cache-dir", "elsewhere")
        project.run("check", TRAINLINT_CACHE_DIR="elsewhere")
        assert looked_at == ["a.py"]
        assert not (project.root / ".trainlint_cache").exists()

    def test_a_write_that_is_killed_leaves_the_old_file(self, tmp_path, monkeypatch) -> None:
        path = tmp_path / "a.json"
        path.write_text("old")

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            cache.write_atomically(str(path), b"new")
        assert path.read_text() == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["a.json"]

    def test_it_is_bounded(self, project, looked_at, monkeypatch) -> None:
        monkeypatch.setattr(cache, "MAX_ENTRIES", 5)
        monkeypatch.setattr(cache, "MAX_BOOKS", 3)
        for number in range(9):
            project.write(f"f{number}.py", DEFECT)
        project.check()
        (book,) = books(project)
        assert len(json.loads(book.read_text())["entries"]) == 5
        for code in ("TL101", "TL102", "TL103", "TL104", "TL201"):
            project.check("--select", code)
            time.sleep(0.01)
        assert len(list((book.parent).glob("*.json"))) <= 3

    def test_files_that_are_gone_leave_it_when_it_is_full(
        self, project, looked_at, monkeypatch
    ) -> None:
        monkeypatch.setattr(cache, "MAX_ENTRIES", 2)
        for name in ("a.py", "b.py", "c.py"):
            project.write(name, DEFECT)
            project.check(name)
        project.check("b.py", "c.py")
        del looked_at[:]
        project.check("b.py", "c.py")
        assert looked_at == []


def test_two_processes_keep_each_others_results(project, looked_at) -> None:
    project.write("a.py", DEFECT)
    project.write("b.py", DEFECT)
    project.check("a.py")
    (path,) = books(project)
    mine = cache.Book(str(path), str(project.root))
    project.check("b.py")
    mine.changed = True
    path.write_text(mine.dump())
    assert set(json.loads(path.read_text())["entries"]) == {"a.py", "b.py"}


@pytest.mark.slow
def test_many_processes_at_once(project) -> None:
    for number in range(12):
        project.write(f"f{number}.py", "import torch\nx = torch.nn.Linear(1, 1)\nx.eval\n")
    command = [sys.executable, "-m", "trainlint", "check", "--output-format", "json", "--jobs", "1"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=project.root) for _ in range(6)]
    outputs = {run.communicate()[0] for run in runs}
    assert len(outputs) == 1
    assert subprocess.run(command, capture_output=True, cwd=project.root).stdout in outputs
