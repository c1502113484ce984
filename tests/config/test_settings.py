"""What a configuration file may say, and what is said when it is wrong."""

from __future__ import annotations

import pytest

from trainlint.config import OPTIONS, ConfigError, Finder, explain, parse


def settings(text: str, name: str = "/p/trainlint.toml"):
    return parse(text.encode(), name)


def test_everything() -> None:
    found = settings(
        """
        select = ["TL1", "TL205"]
        ignore = ["TL101"]
        extend-select = ["TL213"]
        per-file-ignores = {"tests/*" = ["TL201"]}
        exclude = ["a"]
        extend-exclude = ["b"]
        output-format = "concise"
        [semantics]
        train-mode-functions = ["mylib.set_train"]
        """
    )
    assert found.layer.select == ("TL1", "TL205")
    assert found.layer.ignore == ("TL101",)
    assert found.layer.extend_select == ("TL213",)
    assert found.per_file_ignores == (("tests/*", ("TL201",)),)
    assert (found.exclude, found.extend_exclude) == (("a",), ("b",))
    assert found.output_format == "concise"
    assert found.semantics.train_mode_functions == ("mylib.set_train",)
    assert found.root == "/p"


def test_pyproject_has_it_below_tool() -> None:
    text = (
        '[tool.trainlint]\nselect = ["TL1"]\n[tool.trainlint.semantics]\nmodel-factories = ["a.b"]'
    )
    found = settings(text, "/p/pyproject.toml")
    assert found.select == ("TL1",)
    assert found.semantics.model_factories == ("a.b",)


@pytest.mark.parametrize("text", ["", "[project]\nname = 'x'", "[tool.ruff]\n# trainlint"])
def test_pyproject_without_it_is_none(text: str) -> None:
    assert settings(text, "/p/pyproject.toml") is None


def test_a_broken_pyproject_of_other_tools_is_not_our_concern() -> None:
    assert settings("[project\n", "/p/pyproject.toml") is None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("selct = []", ["unknown key `selct`", "did you mean `select`?"]),
        ("extend_select = []", ["unknown key `extend_select`", "`extend-select`"]),
        ("zzz = 1", ["unknown key `zzz`", "expected one of"]),
        ("select = 'TL1'", ["`select` must be a list of strings, not a string"]),
        ("select = [1]", ["`select` must be a list of strings, but holds an integer"]),
        ("ignore = true", ["`ignore` must be a list of strings, not a boolean"]),
        ("exclude = {a = 1}", ["`exclude`", "not a table"]),
        ("exclude = 2020-01-01", ["`exclude`", "not a date or time"]),
        ("per-file-ignores = []", ["`per-file-ignores` must be a table", "not a list"]),
        ("per-file-ignores = {'a' = 'TL1'}", ['`per-file-ignores."a"` must be a list of strings']),
        ("output-format = 'xml'", ["`output-format` must be one of", '"full"', 'not "xml"']),
        ("output-format = 1.5", ["`output-format`", "not a float"]),
        ("semantics = 1", ["`semantics` must be a table, not an integer"]),
        ("[semantics]\ntrain-functions = []", ["unknown key `semantics.train-functions`"]),
        (
            "[semantics]\nmodel-factories = ['a b']",
            ["`semantics.model-factories`", '"a b" is none'],
        ),
        ("select = [", ["invalid TOML"]),
    ],
)
def test_errors_name_the_file_the_key_and_what_was_due(text: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(text)
    for part in ["/p/trainlint.toml", *parts]:
        assert part in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"x = '\xed\xa0\x80'", b"a" + b"=[" * 50_000])
def test_hostile_configuration(data: bytes) -> None:
    with pytest.raises(ConfigError):
        parse(data, "/p/trainlint.toml")


class TestFinding:
    """The nearest file upwards that says something of trainlint."""

    def test_nearest(self, tmp_path) -> None:
        (tmp_path / "trainlint.toml").write_text("select = ['TL1']")
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "pyproject.toml").write_text("[project]\nname = 'x'")
        assert Finder().settings_for(str(tmp_path / "a" / "b")).select == ("TL1",)
        (tmp_path / "a" / "pyproject.toml").write_text("[tool.trainlint]\nselect = ['TL2']")
        assert Finder().settings_for(str(tmp_path / "a" / "b")).select == ("TL2",)

    def test_trainlint_toml_wins_over_pyproject(self, tmp_path) -> None:
        (tmp_path / "trainlint.toml").write_text("select = ['TL1']")
        (tmp_path / "pyproject.toml").write_text("[tool.trainlint]\nselect = ['TL2']")
        assert Finder().settings_for(str(tmp_path)).select == ("TL1",)

    def test_none(self, tmp_path) -> None:
        assert Finder(None, "/root-of-run").settings_for(str(tmp_path)).root == "/root-of-run"


def test_every_option_is_explained() -> None:
    text = explain(None, "text")
    for option in OPTIONS:
        assert option.key in text
    with pytest.raises(KeyError, match="did you mean `select`"):
        explain("selct", "text")
