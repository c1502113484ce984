"""`trainlint check`: what it reads, where it writes, how it ends."""

from __future__ import annotations

import json
import os

import pytest
from libcst import LIBCST_VERSION

pytestmark = pytest.mark.usefixtures("plain_flow")

DEFECT = "model.eval\n"


class TestExitStatus:
    def test_0_where_nothing_is_found(self, project) -> None:
        project.write("a.py", "x = 1\n")
        ran = project.run("check")
        assert (ran.status, ran.out) == (0, "")
        assert "All checks passed: 1 file" in ran.err

    def test_1_where_something_is(self, project) -> None:
        project.write("a.py", DEFECT)
        assert project.run("check").status == 1
        assert project.run("check", "--exit-zero").status == 0

    @pytest.mark.parametrize(
        ("severity", "fail_on", "status"),
        [
            ("ERROR", "error", 1),
            ("WARNING", "error", 0),
            ("WARNING", "warning", 1),
            ("INFO", "warning", 0),
            ("INFO", "info", 1),
        ],
    )
    def test_from_the_severity_asked_for(
        self, project, plain_flow, monkeypatch, severity: str, fail_on: str, status: int
    ) -> None:
        from trainlint import check
        from trainlint.core.diagnostic import Severity

        def interpret(*arguments):
            findings, notes = plain_flow(*arguments)
            return [finding.at(Severity[severity]) for finding in findings], notes

        monkeypatch.setattr(check, "interpret", interpret)
        project.write("a.py", DEFECT)
        assert project.check("--fail-on", fail_on).status == status
        assert len(project.check("--fail-on", fail_on).json) == 1

    def test_2_for_a_missing_path_and_the_others_are_checked(self, project) -> None:
        project.write("a.py", DEFECT)
        ran = project.check("none.py", "a.py")
        assert ran.status == 2
        assert ran.codes == ["TL103"]
        assert "none.py: no such file or folder" in ran.err

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--no-such-flag",),
            ("--output-format", "xml"),
            ("--jobs", "0"),
            ("--fail-on", "never"),
            ("-", "a.py"),
            ("--stdin-filename", "a.py", "a.py"),
        ],
    )
    def test_2_for_wrong_usage(self, project, arguments: tuple[str, ...]) -> None:
        ran = project.run("check", *arguments)
        assert (ran.status, ran.out) == (2, "")

    def test_2_for_an_internal_error_which_hides_nothing(
        self, project, plain_flow, monkeypatch
    ) -> None:
        from trainlint import check

        def interpret(lowered, *rest):
            if lowered.source.path.endswith("bad.py"):
                raise KeyError("oops")
            return plain_flow(lowered, *rest)

        monkeypatch.setattr(check, "interpret", interpret)
        project.write("a.py", DEFECT)
        project.write("bad.py", DEFECT)
        ran = project.check()
        assert ran.status == 2
        assert ran.codes == ["TL103"]
        assert "bad.py: an internal error" in ran.err
        assert "KeyError: 'oops'" in ran.err
        assert "Traceback" not in ran.err
        assert "Traceback" in project.check("--verbose").err

    def test_a_path_for_a_command_is_explained(self, project) -> None:
        project.write("a.py")
        ran = project.run("a.py")
        assert ran.status == 2
        assert "trainlint check a.py" in ran.err


class TestBadFiles:
    """Each is a diagnostic, and the others are still checked."""

    @pytest.mark.parametrize(
        ("name", "content", "code", "message"),
        [
            ("b.py", "def f(:\n", "TL001", "invalid syntax"),
            ("b.py", "x = (1,\n", "TL001", "'(' was never closed"),
            (
                "b.py",
                "if x:\ny\n",
                "TL001",
                "expected an indented block after 'if' statement on line 1",
            ),
            ("b.py", "this is no Python\n", "TL001", "invalid syntax"),
            ("b.py", b"x = 1\0", "TL001", "source code cannot contain null bytes"),
            ("b.py", "(" * 10_000, "TL001", "brackets are nested too deeply: the limit is 200"),
            (
                "b.py",
                b"\x89PNG\r\n\x1a\n",
                "TL002",
                "the file cannot be decoded as UTF-8: byte 0x89",
            ),
            (
                "b.py",
                "# coding: none\n",
                "TL002",
                "the file cannot be decoded: unknown encoding `none`",
            ),
            (
                "b.py",
                "import torch\n(name): int = 1\nmodel.eval\n",
                "TL002",
                f"the file is Python that libcst {LIBCST_VERSION} cannot parse: row ",
            ),
            ("b.ipynb", "{", "TL002", "the file is not a notebook: invalid JSON: "),
            ("b.ipynb", "[]", "TL002", "the file is not a notebook: not a JSON object"),
        ],
    )
    def test_bad(self, project, name: str, content, code: str, message: str) -> None:
        project.write("a.py", DEFECT)
        project.write(name, content)
        ran = project.check()
        assert ran.status == 1
        assert ran.codes == ["TL103", code]
        assert ran.json[1]["message"].startswith(message)
        assert ran.json[1]["severity"] == "error"

    def test_whatever_is_selected(self, project) -> None:
        project.write("a.py", "def (\n")
        assert project.check("--select", "TL205").codes == ["TL001"]
        assert project.check("--ignore", "TL001").codes == []

    def test_the_place_of_the_error(self, project) -> None:
        project.write("a.py", "x = 1\nfor in y:\n    pass\n")
        assert project.check().json[0]["location"] == {"row": 2, "column": 5}

    def test_the_cell_of_the_error(self, project) -> None:
        project.notebook("a.ipynb", "x = 1", "y = 2\nfor in y: pass")
        (found,) = project.check().json
        assert (found["cell"], found["location"]) == (2, {"row": 2, "column": 5})

    def test_syntax_newer_than_the_running_python_is_fine(self, project) -> None:
        project.write("a.py", "type X[T] = list[T]\nf'{'a' + \"b\"}'\nmodel.eval\n")
        assert project.check().codes == ["TL103"]
        project.write("a.py", "type X[T] = list[T]\n")
        assert project.check().codes == []

    def test_a_pipe_does_not_block(self, project) -> None:
        os.mkfifo(project.root / "pipe.py")
        (found,) = project.check("pipe.py").json
        assert (found["code"], found["message"]) == (
            "TL002",
            "the file cannot be read: it is a named pipe",
        )

    def test_empty_files_are_fine(self, project) -> None:
        for name in ("a.py", "b.pyi"):
            project.write(name)
        project.notebook("c.ipynb")
        assert project.check().json == []


class TestStandardInput:
    def test_has_no_name(self, project) -> None:
        ran = project.check("-", stdin=DEFECT)
        assert ran.status == 1
        assert [(f["code"], f["filename"]) for f in ran.json] == [("TL103", "-")]

    def test_shows_its_source(self, project) -> None:
        ran = project.run("check", "-", stdin=DEFECT)
        assert " --> -:1:1\n" in ran.out
        assert "1 | model.eval\n" in ran.out

    def test_takes_a_name(self, project) -> None:
        project.write("trainlint.toml", "per-file-ignores = {'tests/*' = ['TL103']}\n")
        ran = project.check("-", "--stdin-filename", "src/a.py", stdin=DEFECT)
        assert [f["filename"] for f in ran.json] == [str(project.root / "src/a.py")]
        assert project.check("-", "--stdin-filename", "tests/a.py", stdin=DEFECT).json == []

    def test_is_a_notebook_by_name(self, project) -> None:
        text = project.notebook("x.ipynb", "1", "model.eval\n2").read_text()
        (found,) = project.check("-", "--stdin-filename", "n.ipynb", stdin=text).json
        assert found["cell"] == 2

    def test_wins_over_the_file_on_disk(self, project) -> None:
        project.write("a.py", "x = 1\n")
        assert project.check("-", "--stdin-filename", "a.py", stdin=DEFECT).codes == ["TL103"]

    def test_reads_the_files_beside_its_name(self, project) -> None:
        project.write("sub/other.py", "x = 1\n")
        text = f"import other\n{DEFECT}"
        (found,) = project.check("-", "--stdin-filename", "sub/a.py", stdin=text).json
        assert found["related"][0]["filename"] == str(project.root / "sub/other.py")

    def test_bytes_that_cannot_be_decoded(self, project) -> None:
        ran = project.check("-", stdin=b"\xff")
        assert ran.codes == ["TL002"]
        assert project.run("check", "-", stdin=b"\xff").status == 1


class TestOutput:
    def test_findings_go_to_standard_output_and_nothing_else_does(self, project) -> None:
        project.write("a.py", DEFECT)
        ran = project.run("check", "--output-format", "concise", "--verbose")
        assert ran.out == "a.py:1:1: TL103 `model.eval` is named and not called\n"
        assert "Found 1 error in 1 file" in ran.err

    def test_quiet(self, project) -> None:
        project.write("a.py", DEFECT)
        ran = project.run("check", "--quiet")
        assert ran.err == ""
        assert "TL103" in ran.out

    def test_to_a_file_in_one_step(self, project) -> None:
        project.write("a.py", DEFECT)
        project.write("out.json", "old")
        ran = project.run("check", "--output-format", "json", "-o", "out.json")
        assert (ran.status, ran.out) == (1, "")
        assert json.loads((project.root / "out.json").read_text())[0]["code"] == "TL103"
        assert sorted(p.name for p in project.root.iterdir() if p.name != ".trainlint_cache") == [
            "a.py",
            "out.json",
        ]

    def test_to_a_file_that_cannot_be_written(self, project) -> None:
        project.write("a.py", DEFECT)
        ran = project.run("check", "-o", "no/such/folder/out")
        assert ran.status == 2
        assert "cannot write no/such/folder/out" in ran.err

    def test_statistics(self, project) -> None:
        project.write("a.py", DEFECT * 3)
        assert project.run("check", "--statistics").out == "3\tTL103\tmethod-not-called\n"
        assert project.check("--statistics").json == [
            {"code": "TL103", "name": "method-not-called", "count": 3, "fixable": False}
        ]

    @pytest.mark.parametrize(
        ("environment", "coloured"),
        [
            ({"NO_COLOR": None, "FORCE_COLOR": "1"}, True),
            ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
            ({"NO_COLOR": None}, False),
            ({"NO_COLOR": None, "CLICOLOR_FORCE": "1"}, True),
        ],
    )
    def test_colour(self, project, environment: dict[str, str], coloured: bool) -> None:
        project.write("a.py", DEFECT)
        assert ("\x1b[" in project.run("check", **environment).out) is coloured

    def test_format_from_the_environment(self, project) -> None:
        project.write("a.py", DEFECT)
        assert project.run("check", TRAINLINT_OUTPUT_FORMAT="json").json
        assert project.run(
            "check", "--output-format", "concise", TRAINLINT_OUTPUT_FORMAT="json"
        ).out.startswith("a.py:1:1")

    def test_sorted_by_file_row_column(self, project) -> None:
        project.write("b.py", "x; model.eval\nmodel.eval; other.eval\n")
        project.write("a.py", DEFECT)
        places = [
            (f["filename"][-4:], f["location"]["row"], f["location"]["column"])
            for f in project.check().json
        ]
        assert places == sorted(places)
        assert len(places) == 4

    def test_no_files(self, project) -> None:
        ran = project.run("check")
        assert ran.status == 0
        assert "no Python files found" in ran.err

    def test_show_settings(self, project) -> None:
        project.write("trainlint.toml", "select = ['TL103']\n")
        ran = project.run("check", "--show-settings")
        assert f"# {project.root / 'trainlint.toml'}" in ran.out
        assert 'rules = ["TL001", "TL002", "TL103"]' in ran.out


class TestSeveralFiles:
    def test_a_trail_leads_into_other_files(self, project) -> None:
        project.write("a.py", f"import b\n{DEFECT}")
        project.write("b.py", "\nx = 1\n")
        (found,) = project.check("a.py").json
        (step,) = found["related"]
        assert step == {
            "message": "imported from here",
            "filename": str(project.root / "b.py"),
            "location": {"row": 2, "column": 1},
            "end_location": {"row": 2, "column": 6},
        }

    def test_what_lies_in_a_file_that_is_not_checked_is_not_reported(self, project) -> None:
        project.write("a.py", "import b\nelsewhere.eval\n")
        project.write("b.py", "x = 1\n")
        assert project.check("a.py").json == []
        (found,) = project.check("a.py", "b.py").json
        assert found["filename"] == str(project.root / "b.py")

    def test_what_two_files_tell_of_a_third_is_reported_once(self, project) -> None:
        for name in ("a.py", "c.py"):
            project.write(name, "import b\nelsewhere.eval\n")
        project.write("b.py", "x = 1\n")
        assert len(project.check().json) == 1

    def test_the_third_files_comments_suppress_it(self, project) -> None:
        project.write("a.py", "import b\nelsewhere.eval\n")
        project.write("b.py", "x = 1  # trainlint: ignore[TL103]\n")
        assert project.check().json == []

    def test_jobs_and_order_change_nothing(self, project) -> None:
        for number in range(30):
            project.write(f"f{number}.py", f"import f{number + 1}\n{DEFECT * (number % 3)}")
        project.write("f7.py", "def (\n")
        names = [f"f{number}.py" for number in range(30)]
        runs = {
            project.check("--no-cache", "--jobs", "1").out,
            project.check("--no-cache", "--jobs", "3").out,
            project.check("--no-cache", "--jobs", "2", *reversed(names)).out,
        }
        assert len(runs) == 1

    def test_a_worker_that_dies_costs_only_its_own_file(
        self, project, plain_flow, monkeypatch
    ) -> None:
        from trainlint import check

        def interpret(lowered, *rest):
            if lowered.source.path.endswith("f7.py"):
                os._exit(9)
            return plain_flow(lowered, *rest)

        monkeypatch.setattr(check, "interpret", interpret)
        for number in range(20):
            project.write(f"f{number}.py", DEFECT)
        ran = project.check("--no-cache", "--jobs", "2")
        assert ran.status == 2
        assert len(ran.json) == 19
        assert "f7.py: an internal error" in ran.err
        assert "exit code 9" in ran.err


def test_help_names_only_what_works(project) -> None:
    text = project.run("check", "--help").out
    for absent in ("--fix", "--diff", "--watch", "--baseline", "--add-ignore"):
        assert absent not in text
