"""Of too many states some go on for others; what they stand for they have in common."""

from __future__ import annotations

from trainlint.core.facts import Certainty, Mode, ModeFact
from trainlint.flow.standins import thin
from trainlint.flow.state import LibraryObject, ModuleObject, OptimizerObject, State
from trainlint.flow.values import Ref, const

FRAME = 0


def state(*decisions: tuple[str, bool], **variables: object) -> State:
    """A state that was reached by decisions and whose variables hold objects or constants."""
    made = State(decisions=frozenset(decisions), assumed=dict(decisions))
    for name, thing in variables.items():
        if isinstance(thing, bool):
            made.vars[FRAME, name] = const(thing)
        else:
            made.vars[FRAME, name] = Ref((name, id(thing)))
            made.heap[name, id(thing)] = thing  # type: ignore[assignment]
    return made


def model(mode: Mode = Mode.TRAIN, library: str = "torch.nn.Linear") -> ModuleObject:
    return ModuleObject(library=library, flag=ModeFact(mode))


def test_few_states_stay_as_they_are() -> None:
    both = [state(("a", True)), state(("a", False))]
    assert thin(both, 2) == (both, [])


def test_states_that_differ_in_a_flag_go_on_as_one_that_does_not_know_it() -> None:
    net = model()
    yes = state(("fast", True), net=net, fast=True)
    no = state(("fast", False), net=net, fast=False)
    kept, _ = thin([yes, no], 1)
    assert len(kept) == 1
    assert kept[0].decisions == frozenset()
    assert kept[0].assumed == {}
    assert kept[0].vars[FRAME, "fast"] == Ref(("join", (FRAME, "fast")))


def test_a_model_stands_for_another_in_the_same_mode() -> None:
    small = state(("small", True), net=model(library="Small"))
    large = state(("small", False), net=model(library="Large"))
    kept, dropped = thin([small, large], 1)
    assert (kept, dropped) == ([small], [large])
    assert small.decisions == frozenset()


def test_a_model_does_not_stand_for_one_in_another_mode() -> None:
    trains = state(("resume", False), net=model(Mode.TRAIN))
    evaluates = state(("resume", True), net=model(Mode.EVAL))
    kept, _ = thin([trains, evaluates], 1)
    assert kept[0].decisions == frozenset({("resume", False)})


def test_a_model_with_an_optimizer_does_not_stand_for_one_without() -> None:
    net = model()
    with_one = state(("train", True), net=net, optimizer=OptimizerObject())
    without = state(("train", False), net=net)
    kept, _ = thin([with_one, without], 1)
    assert len(kept[0].decisions) == 1


def test_library_objects_of_two_choices_are_not_known_any_more() -> None:
    small = state(net=model(library="Small"), sampler=LibraryObject("sampler", "Distributed"))
    large = state(net=model(library="Large"), sampler=LibraryObject("sampler", "Random"))
    kept, _ = thin([small, large], 1)
    assert kept[0].vars[FRAME, "sampler"] == Ref(("join", (FRAME, "sampler")))


def test_no_more_go_than_have_to() -> None:
    states = [state((f"model {i}", True), net=model(library=f"Net{i}")) for i in range(6)]
    kept, dropped = thin(states, 4)
    assert (len(kept), len(dropped)) == (4, 2)


def test_a_gradient_mode_is_no_choice() -> None:
    on, off = state(net=model(library="A")), state(net=model(library="B"))
    off.grad = type(off.grad)(on=Certainty.NO)
    off.decisions = frozenset({("frozen", True)})
    kept, _ = thin([on, off], 1)
    assert kept == [on]


def test_what_goes_both_ways_is_no_condition() -> None:
    first = state(("a", True), net=model(library="A"))
    second = state(("a", False), ("b", True), net=model(library="B"))
    third = state(("a", False), ("b", False), net=model(library="C"))
    kept, _ = thin([first, second, third], 1)
    assert kept[0].decisions == frozenset()


def test_two_of_three_choices_are_one() -> None:
    """`if a: ... elif b: ... else: <another mode>`: one of the first two it still has to be."""
    first = state(("a", True), net=model(library="A"))
    second = state(("a", False), ("b", True), net=model(library="B"))
    third = state(("a", False), ("b", False), net=model(Mode.EVAL))
    kept, _ = thin([first, second, third], 2)
    assert [len(s.decisions) for s in kept] == [1, 2]
