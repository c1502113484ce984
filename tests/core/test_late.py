"""A late dataclass is a dataclass: only the moment when its methods are compiled differs."""

from __future__ import annotations

import builtins
import copy
import dataclasses
import pickle
import re
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainlint.core.late import dataclass as late_dataclass
from trainlint.core.late import pattern as late_pattern

NAMES = ("first", "second", "third", "fourth")
VALUES = st.one_of(st.integers(0, 2), st.sampled_from(["", "text"]), st.none())


class Part(NamedTuple):
    """What a field is declared with."""

    default: str
    compare: bool
    repr: bool
    kw_only: bool


class Shape(NamedTuple):
    """What a class, and one that inherits from it, are declared with."""

    parts: list[Part]
    inherited: int
    options: dict[str, bool]


PARTS = st.builds(
    Part, st.sampled_from(["none", "value", "factory"]), st.booleans(), st.booleans(), st.booleans()
)
OPTIONS = st.fixed_dictionaries(
    {"frozen": st.booleans(), "slots": st.booleans(), "eq": st.booleans(), "kw_only": st.booleans()}
).filter(lambda options: options["slots"] or not options["frozen"])
SHAPES = st.builds(Shape, st.lists(PARTS, max_size=len(NAMES)), st.integers(0, len(NAMES)), OPTIONS)
ARGUMENTS = st.tuples(
    st.lists(VALUES, max_size=len(NAMES)), st.dictionaries(st.sampled_from(NAMES), VALUES)
)


def declared(decorate: Any, shape: Shape) -> type:
    """The class of that shape, with the first fields in a class that it inherits from."""
    own: list[dict[str, Any]] = [{"__annotations__": {}}, {"__annotations__": {}}]
    optional = False
    for place, (name, part) in enumerate(zip(NAMES, shape.parts)):
        late = part.kw_only or (optional and part.default == "none")
        default: dict[str, Any] = {
            "none": {},
            "value": {"default": f"default {name}"},
            "factory": {"default_factory": list},
        }[part.default]
        optional = optional or (not late and part.default != "none")
        body = own[place >= shape.inherited]
        body["__annotations__"][name] = "object"
        body[name] = dataclasses.field(
            compare=part.compare, repr=part.repr, kw_only=late, **default
        )
    base = decorate(**shape.options)(type("Thing", (), own[0]))
    return decorate(**shape.options)(type("Thing", (base,), own[1]))  # type: ignore[no-any-return]


def pair(shape: Shape) -> tuple[type, type]:
    return declared(late_dataclass, shape), declared(dataclasses.dataclass, shape)


def names(shape: Shape) -> list[str]:
    return [name for name, _ in zip(NAMES, shape.parts)]


def outcome(call: Any, *arguments: Any, **named: Any) -> object:
    """What a call gives, or how it refuses."""
    try:
        return call(*arguments, **named)
    except (TypeError, AttributeError) as error:
        return type(error)


def values(thing: Any) -> object:
    """What is in the fields of an object; anything else is itself."""
    if not dataclasses.is_dataclass(thing):
        return thing
    return {f.name: getattr(thing, f.name, "nothing") for f in dataclasses.fields(thing)}


@given(SHAPES, ARGUMENTS)
def test_takes_the_same_arguments_and_shows_the_same(shape, arguments):
    positional, named = arguments
    late, standard = (outcome(cls, *positional, **named) for cls in pair(shape))
    assert values(late) == values(standard)
    if not isinstance(late, type):
        assert repr(late) == repr(standard)
        assert type(late).__match_args__ == type(standard).__match_args__


@given(SHAPES, st.lists(VALUES, min_size=8, max_size=8))
def test_equal_and_hashed_alike(shape, contents):
    both = [dict(zip(names(shape), contents)), dict(zip(names(shape), reversed(contents)))]
    late, standard = ([cls(**given) for given in both] for cls in pair(shape))
    assert (late[0] == late[1]) is (standard[0] == standard[1])
    assert late[0] != standard[0]
    if shape.options["eq"]:
        assert [outcome(hash, x) for x in late] == [outcome(hash, x) for x in standard]
    else:
        assert len({*late, late[0]}) == 2


@given(SHAPES, VALUES)
def test_accepts_and_refuses_the_same_changes(shape, value):
    given = dict.fromkeys(names(shape), 0)
    for name in given:
        late, standard = (cls(**given) for cls in pair(shape))
        assert outcome(setattr, late, name, value) == outcome(setattr, standard, name, value)
        assert values(late) == values(standard)
        assert outcome(delattr, late, name) == outcome(delattr, standard, name)
        assert values(late) == values(standard)


@given(SHAPES, VALUES)
def test_replaced_and_copied(shape, value):
    given = dict.fromkeys(names(shape), 0)
    for name in given:
        late, standard = (dataclasses.replace(cls(**given), **{name: value}) for cls in pair(shape))
        assert values(late) == values(standard)
        assert values(copy.copy(late)) == values(copy.deepcopy(late)) == values(late)


@late_dataclass(frozen=True, slots=True)
class Frozen:
    number: int
    text: str = dataclasses.field(default="", compare=False)


@late_dataclass(slots=True)
class Open:
    number: int
    many: list[int] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.many.append(self.number)


@pytest.mark.parametrize("thing", [Frozen(1, "one"), Open(1)])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickled(thing, protocol):
    again = pickle.loads(pickle.dumps(thing, protocol))
    assert type(again) is type(thing)
    assert values(again) == values(thing)


def test_matched_by_position():
    match Frozen(1, "one"):
        case Frozen(number, text):
            assert (number, text) == (1, "one")


def test_post_init_is_called_once():
    assert Open(3).many == [3]
    assert Open(4, [1]).many == [1, 4]


def test_frozen_also_for_a_name_that_is_no_field():
    class Wider(Frozen):
        pass

    for thing in (Frozen(1), Wider(1)):
        with pytest.raises(dataclasses.FrozenInstanceError, match="unknown"):
            thing.unknown = 1
        with pytest.raises(dataclasses.FrozenInstanceError, match="number"):
            del thing.number


def test_own_methods_stay():
    @late_dataclass(frozen=True, slots=True)
    class Named:
        name: str
        number: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Named) and self.name == other.name

        def __hash__(self) -> int:
            return hash(self.name)

        def __repr__(self) -> str:
            return self.name

    assert {Named("a", 1)} == {Named("a", 2)}
    assert repr(Named("a", 1)) == "a"


def test_nothing_is_compiled_before_it_is_called(monkeypatch):
    compiled = []
    original = exec

    def counting(source, *scopes):
        compiled.extend(re.findall(r"def (__(?:init|repr|eq|hash|setattr|delattr)__)", source))
        original(source, *scopes)

    monkeypatch.setattr(builtins, "exec", counting)

    @late_dataclass(frozen=True, slots=True)
    class Thing:
        number: int

    assert compiled == []
    assert {Thing(1), Thing(1)} == {Thing(1)}
    assert sorted(compiled) == ["__eq__", "__hash__", "__init__"]


def test_a_frozen_class_without_slots_is_refused():
    with pytest.raises(TypeError, match="slots"):

        @late_dataclass(frozen=True)
        class Thing:
            number: int


def test_an_object_inside_itself_is_shown():
    thing = Open(1)
    thing.many.append(thing)
    assert repr(thing) == "Open(number=1, many=[1, ...])"


def test_a_pattern_is_compiled_when_it_is_first_asked(monkeypatch):
    compiled = []
    original = re.compile

    def counting(*pattern):
        compiled.append(pattern)
        return original(*pattern)

    monkeypatch.setattr(re, "compile", counting)
    word = late_pattern(r"[a-z]+", re.IGNORECASE)
    assert word.pattern == r"[a-z]+"
    assert compiled == []
    assert word.findall("one Two 3") == ["one", "Two"]
    assert word.fullmatch("Two") is not None
    assert word.fullmatch("3") is None
    assert word.findall("four") == ["four"]
    assert compiled == [(r"[a-z]+", re.IGNORECASE)]
