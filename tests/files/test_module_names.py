"""Which file of the project a module name means. Nothing is imported to find out."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from trainlint.files import Neighbourhood, Resolver


@pytest.fixture
def find(project):
    """`find(dotted, from)` with paths relative to the project."""

    def look(dotted: str, asker: str) -> str | None:
        found = Resolver().find(dotted, str(project.root / asker))
        return found and found.removeprefix(f"{project.root}/")

    return look


@pytest.fixture(autouse=True)
def tree(project) -> None:
    project.write("pyproject.toml", "[project]\nname = 'x'\n")
    for name in (
        "train.py",
        "evaluate.py",
        "pkg/__init__.py",
        "pkg/models.py",
        "pkg/sub/__init__.py",
        "pkg/sub/deep.py",
        "scripts/run.py",
        "scripts/local.py",
        "src/inner/__init__.py",
        "both.py",
        "both/__init__.py",
        "plain/thing.py",
    ):
        project.write(name)


@pytest.mark.parametrize(
    ("dotted", "asker", "file"),
    [
        pytest.param("evaluate", "train.py", "evaluate.py", id="beside"),
        pytest.param("pkg", "train.py", "pkg/__init__.py", id="a package"),
        pytest.param("pkg.models", "train.py", "pkg/models.py", id="in a package"),
        pytest.param("pkg.sub.deep", "pkg/models.py", "pkg/sub/deep.py", id="absolute, inside"),
        pytest.param("pkg.models", "scripts/run.py", "pkg/models.py", id="from the project's root"),
        pytest.param("local", "scripts/run.py", "scripts/local.py", id="a script's own folder"),
        pytest.param("inner", "scripts/run.py", "src/inner/__init__.py", id="from src"),
        pytest.param("plain.thing", "train.py", "plain/thing.py", id="no __init__.py"),
        pytest.param("both", "train.py", "both/__init__.py", id="a package wins over a file"),
        pytest.param(".models", "pkg/__init__.py", "pkg/models.py", id="relative"),
        pytest.param(".", "pkg/models.py", "pkg/__init__.py", id="the package itself"),
        pytest.param("..models", "pkg/sub/deep.py", "pkg/models.py", id="from above"),
        pytest.param("..", "pkg/sub/deep.py", "pkg/__init__.py", id="the package above"),
        pytest.param("torch", "train.py", None, id="installed"),
        pytest.param("pkg.none", "train.py", None, id="missing"),
        pytest.param(".none", "pkg/models.py", None, id="missing, relative"),
        pytest.param("......x", "train.py", None, id="above everything"),
        pytest.param("models", "train.py", None, id="not by a bare name from outside"),
    ],
)
def test_find(find, dotted: str, asker: str, file: str | None) -> None:
    assert find(dotted, asker) == file


def test_an_installed_package_sees_itself_and_no_other(project, find) -> None:
    for name in ("one/__init__.py", "one/a.py", "two/__init__.py"):
        project.write(f"env/site-packages/{name}")
    assert find("one.a", "env/site-packages/one/__init__.py") == "env/site-packages/one/a.py"
    assert find("two", "env/site-packages/one/a.py") is None


class TestMentions:
    """Whether a file that imports a module mentions one of its names."""

    @pytest.fixture
    def mentioned(self, project):
        project.write("evaluate.py", "def evaluate(model): pass\ndef helper(): pass\n")

        def ask(name: str, path: str = "evaluate.py") -> bool:
            return Neighbourhood().mentioned_elsewhere(name, str(project.root / path))

        return ask

    @pytest.mark.parametrize(
        "text",
        [
            "from evaluate import evaluate\nevaluate(model)\n",
            "import evaluate\nevaluate.evaluate(model)\n",
            "from evaluate import evaluate as score\nscore(model)\n",
            "import os, evaluate as e\ne.evaluate(model)\n",
            "from . import evaluate\nevaluate.evaluate(model)\n",
            "from pkg import (\n    a,\n    evaluate,\n)\nevaluate(model)\n",
            "    from ..evaluate import *\nevaluate(model)\n",
        ],
    )
    def test_imported_and_mentioned(self, project, mentioned, text: str) -> None:
        project.write("train.py", text)
        assert mentioned("evaluate")
        assert not mentioned("helper")

    @pytest.mark.parametrize(
        "text", ["import ()\n", "from evaluate import ()\n", "import\n", "import"]
    )
    def test_an_import_of_nothing(self, project, mentioned, text: str) -> None:
        """Whatever is written in a file beside: a check of another one is not stopped by it."""
        project.write("beside.py", text)
        assert not mentioned("evaluate")

    def test_a_folder_with_too_much_in_it_is_not_walked_to_its_end(
        self, project, mentioned, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A script in a home directory: nobody waits until all data beside it is listed."""
        monkeypatch.setattr("trainlint.files._MAX_LISTED", 30)
        assert not mentioned("evaluate")
        for number in range(40):
            project.write(f"data/{number}.jpg")
        assert mentioned("evaluate")  # nobody knows

    @pytest.mark.parametrize(
        "text",
        [
            "from .evaluate import evaluate\n",
            "from evaluate import evaluate\nTASKS = {'eval': evaluate}\n",
            "from evaluate import evaluate\nclass evaluate(evaluate): pass\n",
        ],
    )
    def test_handed_on_and_not_called(self, project, mentioned, text: str) -> None:
        project.write("tasks/__init__.py", text)
        assert not mentioned("evaluate")

    def test_called_under_the_name_that_a_package_hands_on(self, project, mentioned) -> None:
        project.write("tasks/__init__.py", "from evaluate import evaluate\n")
        project.write("train.py", "from tasks import evaluate\nevaluate(model)\n")
        assert mentioned("evaluate")

    def test_the_same_name_elsewhere_without_an_import(self, project, mentioned) -> None:
        project.write("train.py", "def helper(): pass\n")
        assert not mentioned("helper")

    def test_a_part_of_a_word(self, project, mentioned) -> None:
        project.write("train.py", "import evaluate\nmy_helpers = 1\n")
        assert not mentioned("helper")

    def test_a_package_is_imported_by_its_folder(self, project, mentioned) -> None:
        project.write("train.py", "from pkg import build\nbuild()\n")
        assert mentioned("build", "pkg/__init__.py")

    def test_an_installed_package_is_a_project_of_its_own(self, project) -> None:
        project.write("env/site-packages/one/a.py", "def build(): pass\n")
        project.write("env/site-packages/one/b.py", "from .a import build\nbuild()\n")
        project.write("env/site-packages/two/b.py", "from one.a import only_two\nonly_two()\n")
        where = str(project.root / "env/site-packages/one/a.py")
        assert Neighbourhood().mentioned_elsewhere("build", where)
        assert not Neighbourhood().mentioned_elsewhere("only_two", where)

    def test_a_project_that_another_has_listed_is_not_walked_again(
        self, project, monkeypatch
    ) -> None:
        project.write("evaluate.py", "def helper(): pass\n")
        project.write("train.py", "from evaluate import helper\nhelper()\n")
        where = str(project.root / "evaluate.py")
        first = Neighbourhood()
        first.state_of(where)
        monkeypatch.setattr("trainlint.files._below", lambda *_: pytest.fail("it is walked"))
        assert Neighbourhood(listings=first.listings).mentioned_elsewhere("helper", where)

    def test_what_is_remembered_of_the_files_takes_no_more_room_than_they(self, project) -> None:
        text = "from evaluate import helper\n" + "".join(f"name_{n} = 1\n" for n in range(400))
        for number in range(30):
            project.write(f"other_{number}.py", text)
        asked = Neighbourhood()
        where = project.write("evaluate.py", "def helper(): pass\n")
        gc.collect()
        tracemalloc.start()
        assert not asked.mentioned_elsewhere("helper", str(where))
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert 30 * 400 < kept < 30 * len(text)
