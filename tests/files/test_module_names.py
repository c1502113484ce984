"""Which file of the project a module name means. Nothing is imported to find out."""

from __future__ import annotations

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


def test_mentions_in_other_files(project) -> None:
    project.write("train.py", "from evaluate import evaluate\nevaluate(model)\nonly_here = 1\n")
    project.write("evaluate.py", "def evaluate(model): pass\n")
    world = Neighbourhood()
    assert world.mentioned_elsewhere("evaluate", str(project.root / "evaluate.py"))
    assert not world.mentioned_elsewhere("only_here", str(project.root / "train.py"))
    assert world.mentioned_elsewhere("only_here", str(project.root / "evaluate.py"))
    assert not world.mentioned_elsewhere("eval", str(project.root / "train.py"))
