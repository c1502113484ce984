"""The pytest plugin: loads torch only once something is watched.

`trainlint_watch` is a fixture that makes watches, `--trainlint` watches every model that a test
trains, and the marker `trainlint(ignore=[...])` leaves codes out in one test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from trainlint.runtime import Watch


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("trainlint")
    group.addoption(
        "--trainlint",
        action="store_true",
        default=False,
        help="watch every training step of every test (trainlint)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "trainlint(ignore=[...]): codes that trainlint leaves out in this test"
    )


def _ignored(item: pytest.Item) -> list[str]:
    """The codes that the test's markers, from the nearest outwards, leave out."""
    found: list[str] = []
    for marker in item.iter_markers("trainlint"):
        unknown = set(marker.kwargs) - {"ignore"}
        if marker.args or unknown:
            raise pytest.UsageError(
                "the marker trainlint expects `trainlint(ignore=[...])`, "
                f"got {marker.args or sorted(unknown)}"
            )
        ignore = marker.kwargs.get("ignore", ())
        found.extend([ignore] if isinstance(ignore, str) else ignore)
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    if not item.config.getoption("--trainlint"):
        return (yield)
    from trainlint.runtime.everywhere import WatchEverything

    with WatchEverything(ignore=_ignored(item)):
        return (yield)


@pytest.fixture
def trainlint_watch(request: pytest.FixtureRequest) -> Iterator[Callable[..., Watch]]:
    """A factory like `trainlint.runtime.watch`; what a test leaves open is closed after it."""
    from trainlint.runtime import watch

    ignored = _ignored(request.node)
    made: list[Watch] = []

    def factory(model: Any, optimizer: Any = None, phase: Any = None, **options: Any) -> Watch:
        ignore = options.pop("ignore", None) or []
        more = ignore.split(",") if isinstance(ignore, str) else list(ignore)
        options["ignore"] = [*more, *ignored]
        made.append(watch(model, optimizer, phase, **options))
        return made[-1]

    yield factory
    for one in made:
        one.close()
