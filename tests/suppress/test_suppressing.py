"""Suppression is a pass over finished diagnostics."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.usefixtures("plain_flow")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("model.eval  # trainlint: ignore[TL103] why\n", id="code"),
        pytest.param("model.eval  # trainlint: ignore[method-not-called]\n", id="name"),
        pytest.param("# trainlint: ignore[TL103]\nmodel.eval\n", id="line above"),
        pytest.param("model.eval  # noqa: TL103\n", id="noqa with code"),
        pytest.param("model.eval  # noqa\n", id="bare noqa"),
        pytest.param("x = 1\nmodel.eval\n# trainlint: file-ignore[TL103]\n", id="file"),
        pytest.param("(\n  model.eval  # trainlint: ignore[TL103]\n)\n", id="inside the statement"),
        pytest.param("(\n  model.eval\n)  # noqa: TL103\n", id="last line of the statement"),
    ],
)
def test_suppressed(project, text: str) -> None:
    project.write("a.py", text)
    assert project.check("a.py").json == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("model.eval  # trainlint: ignore[TL101]\n", id="another code"),
        pytest.param("model.eval  # trainlint: ignore\n", id="no brackets"),
        pytest.param("# trainlint: file-ignore\nmodel.eval\n", id="no brackets for the file"),
        pytest.param("model.eval  # noqa: E501\n", id="another tool's code"),
        pytest.param("x  # trainlint: ignore[TL103]\nmodel.eval\n", id="another statement"),
        pytest.param("# trainlint: ignore[TL103]\n\nmodel.eval\n", id="a blank line between"),
        pytest.param("model.eval\n# trainlint: ignore[TL103]\nx\n", id="the line below"),
    ],
)
def test_not_suppressed(project, text: str) -> None:
    project.write("a.py", text)
    assert project.check("a.py").codes == ["TL103"]


def test_in_a_notebook_a_comment_counts_in_its_cell_only(project) -> None:
    project.notebook(
        "a.ipynb",
        "# trainlint: file-ignore[TL103]\nmodel.eval\n1",
        "model.eval\n1",
        "model.eval # noqa\n1",
    )
    (found,) = project.check("a.ipynb").json
    assert (found["cell"], found["location"]) == (2, {"row": 1, "column": 1})


class TestUnused:
    """TL003."""

    def codes(self, project, *arguments: str) -> list[tuple[str, int]]:
        ran = project.check("--extend-select", "TL003", *arguments)
        return [(found["code"], found["location"]["row"]) for found in ran.json]

    def test_is_off_by_default(self, project) -> None:
        project.write("a.py", "x  # trainlint: ignore[TL103]\n")
        assert project.check().json == []

    def test_reports_what_suppresses_nothing(self, project) -> None:
        project.write("a.py", "x  # trainlint: ignore[TL103]\nmodel.eval  # noqa: TL103\n")
        assert self.codes(project) == [("TL003", 1)]

    def test_also_in_a_file_that_no_rule_looks_at(self, project) -> None:
        project.write("a.py", "x = 1  # trainlint: ignore[TL103]\n")
        assert self.codes(project) == [("TL003", 1)]

    def test_leaves_other_tools_alone(self, project) -> None:
        project.write("a.py", "x  # noqa: E501\ny  # noqa\n")
        assert self.codes(project) == []

    def test_leaves_rules_alone_that_are_not_selected(self, project) -> None:
        project.write("a.py", "x  # trainlint: ignore[TL103]\n")
        assert self.codes(project, "--ignore", "TL103") == []

    def test_names_unknown_rules(self, project) -> None:
        project.write("a.py", "x  # trainlint: ignore[TL999, no-such-rule]\n")
        (found,) = project.check("--extend-select", "TL003").json
        assert found["message"] == "`TL999`, `no-such-rule`: no such rule"

    def test_names_missing_brackets(self, project) -> None:
        project.write("a.py", "# trainlint: file-ignore\nx  # trainlint: ignore\n")
        assert self.codes(project) == [("TL003", 1), ("TL003", 2)]

    def test_names_only_the_idle_one_of_two(self, project) -> None:
        project.write("a.py", "model.eval  # trainlint: ignore[TL103, TL101]\n")
        (found,) = project.check("--extend-select", "TL003").json
        assert found["message"] == "`TL101` suppresses nothing here"

    def test_can_be_suppressed_itself(self, project) -> None:
        project.write("a.py", "x  # trainlint: ignore[TL103, TL003]\n")
        assert self.codes(project) == []

    def test_says_nothing_of_a_file_that_could_not_be_parsed(self, project) -> None:
        project.write("a.py", "x = (  # trainlint: ignore[TL103]\n")
        assert self.codes(project) == [("TL001", 1)]
