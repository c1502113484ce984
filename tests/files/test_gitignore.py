"""A `.gitignore` means what git says that it means."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trainlint.gitignore import GitIgnore

NAMES = ("a", "b", "ab", "a.py", "a b", "a ", "#a", "!a", "a-b", "[a]", "*", "a\\b", "a\nb")
PIECES = (
    *("a", "b", "ab", ".py", "*", "**", "***", "/", "?", "!", "#", " ", "-", "1"),
    *(
        "[ab]",
        "[!a]",
        "[^a]",
        "[a-c]",
        "[]a]",
        "[!]a]",
        "[b-a]",
        "[a-]",
        "[a-c-z]",
        "[\\a]",
        "[+-a]",
    ),
    *("[[:alpha:]]", "[[:digit:]b]", "[![:upper:]]", "[[:none:]]", "[[:a]", "[[]", "[[a]]", "[/]"),
    *("\\a", "\\*", "\\ ", "\\!", "\\#", "\\\\", "[", "]", "\\", "[a", "[[:alpha:]", "[a-"),
)
COMMON = ("a", "b", "a.py", "files", "/", "/", "*", "**", "?", "[!b]")
_QUIRK = re.compile(r"[^/*!]\*\*")
"""In `a**/b` git does not take the asterisks for regular ones, as its documentation says."""
LINES = st.lists(
    st.builds(
        str.__add__,
        st.sampled_from(("", "", "!", "/", "a/")),
        st.one_of(
            st.lists(st.sampled_from(pieces), max_size=5).map("".join)
            for pieces in (COMMON, PIECES)
        ),
    ).filter(lambda line: not _QUIRK.search(line)),
    max_size=4,
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Each name as a file and as a folder, in each of the folders `a`, `b`, `b/a` and `ab/c/a`."""
    if shutil.which("git") is None or os.name == "nt":
        pytest.skip("it needs git, and a file system that allows all of the names")
    root = tmp_path_factory.mktemp("tree")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    for folder in ("a", "b", "b/a", "ab/c/a"):
        for name in NAMES:
            (root / folder / "folders" / name).mkdir(parents=True)
            (root / folder / name).mkdir(parents=True, exist_ok=True)
            (root / folder / "folders" / name / "file").touch()
            (root / folder / "files").mkdir(exist_ok=True)
            (root / folder / "files" / name).touch()
    return root


def ignored_by_git(tree: Path, paths: list[str]) -> set[str]:
    asked = subprocess.run(
        ["git", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=tree,
        input="\0".join(paths).encode(),
        capture_output=True,
    )
    assert asked.stderr == b""
    return set(asked.stdout.decode().split("\0")) - {""}


def is_ignored(tree: Path, patterns: GitIgnore, path: str) -> bool:
    """Whether a walk from the top leaves it out: folders are judged before what lies in them."""
    above = [str(folder) for folder in list(Path(path).parents)[-2::-1]]
    return any(patterns.ignores(folder, True) for folder in above) or bool(
        patterns.ignores(path, (tree / path).is_dir())
    )


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(LINES)
@example(["*.py", "!folders/", "!a.py"])
@example(["a/**", "!a/files"])
@example(["**/a/**/b"])
@example(["b/**/", "!**/files/"])
@example(["/a[!x]files", "b[/]a"])
@example(["**"])
@example(["a/*"])
@example(["a/**/*"])
@example(["b/**"])
@example(["/a", "b/a", "ab/"])
@example(["a\\ ", "a \\  ", "\\#a", "\\!a"])
def test_what_git_ignores(tree, lines):
    (tree / ".gitignore").write_text("\n".join(lines))
    paths = [str(path.relative_to(tree)) for path in tree.rglob("*") if ".git" not in path.parts]
    patterns = GitIgnore(lines)
    ours = {path for path in paths if is_ignored(tree, patterns, path)}
    assert ours == ignored_by_git(tree, paths)


def test_no_pattern_says_nothing():
    assert not GitIgnore(["# a comment", "", "/", "!"])
    assert GitIgnore(["b", "!c"]).ignores("a", False) is None
    assert GitIgnore(["b", "!c"]).ignores("c", False) is False
