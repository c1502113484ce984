"""What a name of one file refers to in the others, and how far one goes to find out."""

from __future__ import annotations

from trainlint.flow import ir
from trainlint.flow.project import Project
from trainlint.flow.values import ClassValue, External, Value
from trainlint.syntax.lower import lower
from trainlint.syntax.sketch import sketch


class Files:
    """A project in memory; relative imports lead to the module's last name."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files
        self.loaded: list[str] = []

    def load(self, path: str) -> ir.Module | None:
        self.loaded.append(path)
        return lower(self.files[path], path)

    def sketch(self, path: str) -> ir.Sketch | None:
        return sketch(self.files[path], frozenset(), frozenset())

    def find(self, dotted: str, from_path: str) -> str | None:
        name = dotted.lstrip(".")
        return next((path for path in self.files if path.endswith(f"/{name}.py")), None)

    def mentioned_elsewhere(self, name: str, path: str) -> bool:
        return False


def resolved(name: str, path: str, **files: str) -> tuple[Value | None, Files]:
    every = {f"{path.rsplit('/', 1)[0]}/{stem}.py": text for stem, text in files.items()}
    loader = Files(every)
    info = Project(loader).add(lower(every[path], path))
    return info.resolve(name), loader


def test_a_star_import_gives_what_the_other_file_defines() -> None:
    found, _ = resolved("Net", "/p/a.py", a="from .b import *", b="class Net: ...")
    assert isinstance(found, ClassValue)


def test_a_name_is_not_looked_for_in_hundreds_of_files() -> None:
    parts = {f"part{i}": f"class Net{i}(Missing): ..." for i in range(200)}
    gathers = "\n".join(f"from .{part} import *" for part in parts)
    found, loader = resolved("Missing", "/p/a.py", a=gathers, **parts)
    assert found is None
    assert len(loader.loaded) < 40


def test_a_file_that_does_not_have_the_word_is_not_parsed_for_it() -> None:
    source = "from .b import *\nfrom .c import *"
    found, loader = resolved("Net", "/p/a.py", a=source, b="class No: ...", c="class Net: ...")
    assert isinstance(found, ClassValue)
    assert loader.loaded == ["/p/c.py"]


def test_a_library_s_own_file_knows_the_library_s_classes_by_their_names() -> None:
    path = "/site-packages/transformers/models/bert/modeling.py"
    source = "from ...modeling_utils import PreTrainedModel"
    found, loader = resolved("PreTrainedModel", path, modeling=source, modeling_utils="x = 1")
    assert found == External("transformers.modeling_utils.PreTrainedModel")
    assert loader.loaded == []


def test_a_project_s_own_file_of_that_name_is_its_own() -> None:
    source = "from .modeling_utils import PreTrainedModel"
    theirs = "class PreTrainedModel: ..."
    found, _ = resolved("PreTrainedModel", "/home/me/a.py", a=source, modeling_utils=theirs)
    assert isinstance(found, ClassValue)
