"""How flags and files come together in a run."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.usefixtures("plain_flow")


@pytest.fixture(autouse=True)
def defect(project) -> None:
    project.write("a.py", "model.eval\n")


def test_the_file_holds(project) -> None:
    project.write("pyproject.toml", "[tool.trainlint]\nignore = ['TL103']\n")
    assert project.check().json == []


def test_the_command_line_wins(project) -> None:
    project.write("pyproject.toml", "[tool.trainlint]\nignore = ['TL103']\n")
    assert project.check("--select", "TL103").codes == ["TL103"]
    assert project.check("--extend-select", "method-not-called").codes == ["TL103"]


def test_flags_are_comma_separated_and_repeatable(project) -> None:
    assert project.check("--select", "TL2,TL103").codes == ["TL103"]
    assert project.check("--select", "TL2", "--select", "TL1").codes == ["TL103"]
    assert project.check("--ignore", "TL2, TL103").codes == []


def test_isolated_takes_no_file(project) -> None:
    project.write("trainlint.toml", "ignore = ['TL103']\n")
    assert project.check("--isolated").codes == ["TL103"]


def test_config_takes_the_named_file(project) -> None:
    project.write("trainlint.toml", "ignore = ['TL103']\n")
    project.write("other/my.toml", "select = ['TL1']\n")
    assert project.check("--config", "other/my.toml", "a.py").codes == ["TL103"]


def test_a_missing_config_is_an_error(project) -> None:
    ran = project.run("check", "--config", "none.toml")
    assert ran.status == 2
    assert "none.toml: cannot be read" in ran.err


def test_config_and_isolated_exclude_each_other(project) -> None:
    assert project.run("check", "--config", "x.toml", "--isolated").status == 2


def test_each_file_has_the_settings_of_its_folder(project) -> None:
    project.write("sub/b.py", "model.eval\n")
    project.write("sub/trainlint.toml", "ignore = ['TL103']\n")
    found = project.check().json
    assert [one["filename"] for one in found] == [str(project.root / "a.py")]


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("select = ['TL110']", "unknown rule `TL110`"),
        ("ignore = ['nonsense']", "unknown rule `nonsense`"),
        ("per-file-ignores = {'a' = ['TLX']}", "unknown rule `TLX`"),
        ("seelct = []", "did you mean `select`?"),
    ],
)
def test_bad_configuration_ends_the_run(project, toml: str, message: str) -> None:
    project.write("trainlint.toml", toml)
    ran = project.run("check")
    assert (ran.status, ran.out) == (2, "")
    assert "trainlint.toml" in ran.err
    assert message in ran.err


def test_an_unknown_rule_in_a_flag_names_the_nearest(project) -> None:
    ran = project.run("check", "--select", "method-not-caled")
    assert ran.status == 2
    assert "did you mean `method-not-called`?" in ran.err


def test_output_format_from_the_file(project) -> None:
    project.write("trainlint.toml", "output-format = 'concise'\n")
    assert project.run("check").out == "a.py:1:1: TL103 `model.eval` is named and not called\n"
    assert project.run("check", "--output-format", "json").json


class TestPerFileIgnores:
    def test_by_folder(self, project) -> None:
        project.write("tests/b.py", "model.eval\n")
        project.write("tests/deep/c.py", "model.eval\n")
        project.write("trainlint.toml", "per-file-ignores = {'tests/*' = ['TL1']}\n")
        assert [one["filename"] for one in project.check().json] == [str(project.root / "a.py")]

    def test_by_name(self, project) -> None:
        project.write("trainlint.toml", "per-file-ignores = {'a.py' = ['method-not-called']}\n")
        assert project.check().json == []

    def test_a_broken_file_can_be_ignored(self, project) -> None:
        project.write("a.py", "def (\n")
        project.write("trainlint.toml", "per-file-ignores = {'a.py' = ['TL001']}\n")
        assert project.check().json == []

    def test_unused_ones_are_told_at_their_line(self, project) -> None:
        toml = 'extend-select = ["TL004"]\n[per-file-ignores]\n"b.py" = ["TL103"]\n"a.py" = ["TL1", "TL2"]\n'
        project.write("trainlint.toml", toml)
        first, second = project.check().json
        assert first["code"] == second["code"] == "TL004"
        assert first["filename"] == str(project.root / "trainlint.toml")
        assert (first["location"]["row"], first["message"]) == (
            3,
            '`per-file-ignores` for "b.py": `TL103` ignores nothing',
        )
        assert '"a.py": `TL2` ignores' in second["message"]

    def test_unused_ones_are_off_by_default(self, project) -> None:
        project.write("trainlint.toml", 'per-file-ignores = {"b.py" = ["TL103"]}\n')
        assert project.check().codes == ["TL103"]
