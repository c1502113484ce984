"""What is computed from tensors: graphs joined and cut, activations, comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainlint.core.facts import (
    Certainty,
    Cut,
)
from trainlint.flow import ir
from trainlint.flow.activation import SAME, Outputs, output_activation
from trainlint.flow.frames import Frame
from trainlint.flow.naming import EACH
from trainlint.flow.state import (
    ListObject,
    State,
    join_values,
)
from trainlint.flow.values import (
    FALSE,
    NONE,
    TRUE,
    Condition,
    Const,
    LibraryMethod,
    ObjectId,
    Ref,
    Tensor,
    TupleValue,
    Value,
    is_text,
)
from trainlint.libraries.torch import HEADS

if TYPE_CHECKING:
    from trainlint.flow.interpret import Interpreter


UNORDERED = "unordered"
"""In place of a container's activation: which of its parts comes last is not known."""


class Tensors:
    """What is computed from tensors: graphs joined and cut, activations, comparisons."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    def cut(self, value: Value, how: Cut, frame: Frame, node: ir.Node) -> Value:
        """The value without its graph."""
        if not isinstance(value, Tensor):
            return value
        origin = self.run.origin(frame, node, f"its graph is cut here by {how.value}")
        if how in (Cut.ITEM, Cut.COMPARISON, Cut.NUMPY):
            self.run.training.measured(value)
        if value.attached is Certainty.NO and value.cut is not None:
            return value
        return Tensor(
            attached=Certainty.NO,
            cut=how,
            cut_origin=origin,
            references=value.references | value.forwards,
            activation=value.activation,
            activation_origin=value.activation_origin,
        )

    def combine(self, values: tuple[Value, ...], op: str, state: State | None = None) -> Value:
        """What is computed from several values carries all their graphs.

        With gradients off in `state` it carries none; updates in place, which keep the graph of
        what they change, give no state.
        """
        tensors: list[Tensor] = []
        others = False
        for value in flattened(self.unpacked(values, state)):
            if isinstance(value, Tensor):
                tensors.append(value)
            elif not isinstance(value, Const) and not self.run.collections.is_data(value):
                others = True
        if not tensors:
            return Ref(("computed", op)) if others else self.run.collections.more_data(values, op)
        attached = {t.attached for t in tensors}
        if Certainty.YES in attached:
            certain = Certainty.YES
        elif attached == {Certainty.NO} and not others:
            certain = Certainty.NO
        else:
            certain = Certainty.UNKNOWN
        if state is not None and state.grad.on is Certainty.NO:
            return self._computed_without_graph(tensors, state)
        first = tensors[0]
        return Tensor(
            forwards=frozenset(f for t in tensors for f in t.forwards),
            attached=certain,
            cut=first.cut if certain is Certainty.NO else None,
            cut_origin=first.cut_origin if certain is Certainty.NO else None,
            references=frozenset(f for t in tensors for f in t.references),
            fed=frozenset(f for t in tensors for f in t.fed),
            scaler=next((t.scaler for t in tensors if t.scaler is not None), None),
            divided=any(t.divided for t in tensors) or op == "/",
            leaf=any(t.leaf for t in tensors) and certain is Certainty.NO,
            packed=any(t.packed for t in tensors),
        )

    @staticmethod
    def unpacked(values: tuple[Value, ...], state: State | None) -> tuple[Value, ...]:
        """Lists and dicts give what is in them: `torch.stack(losses)`."""
        found: list[Value] = []
        for value in values:
            thing = state.heap.get(value.oid) if state and isinstance(value, Ref) else None
            if isinstance(thing, ListObject):
                found.extend(thing.items if thing.items is not None else thing.summary)
            else:
                found.append(value)
        return tuple(found)

    @staticmethod
    def _computed_without_graph(tensors: list[Tensor], state: State) -> Tensor:
        cut = next((t for t in tensors if t.attached is Certainty.NO and t.cut is not None), None)
        return Tensor(
            attached=Certainty.NO,
            cut=cut.cut if cut else Cut.NO_GRAD,
            cut_origin=cut.cut_origin if cut else state.grad.origin,
            references=frozenset(f for t in tensors for f in t.forwards | t.references),
            fed=frozenset(f for t in tensors for f in t.fed),
            divided=any(t.divided for t in tensors),
        )

    def activation_of(self, oid: ObjectId, state: State) -> str:
        """The last activation of a model's output, if it has one output and that is certain."""
        return self.output_of(oid, state)[0]

    def output_of(self, oid: ObjectId, state: State) -> tuple[str, tuple[tuple[object, str], ...]]:
        """The last activation of a model's output, or of each of several, as far as certain."""
        found = self._ends_with(oid, state)
        return (found, ()) if isinstance(found, str) else ("", found.items)

    def _ends_with(self, oid: ObjectId, state: State) -> str | Outputs:
        module = state.module(oid)
        for _ in range(6):
            if module is None:
                return ""
            if module.wraps is not None:
                module = state.module(module.wraps)
                continue
            break
        if module is None:
            return ""
        if module.activation:
            return "" if module.activation == UNORDERED else module.activation
        base = self.run.models.base(oid, state)
        if module.library == "torch.nn.Sequential":
            return self._last_activation(base, state)
        if module.cls is not None:
            if module.cls.method("forward") is None:
                sequential = "torch.nn.Sequential" in module.cls.externals
                return self._last_activation(base, state) if sequential else ""
            return output_activation(
                module.cls, lambda name: self._part_activation(base, name, state)
            )
        head = next((name for name, paths in HEADS if paths.match(module.library)), "")
        return self._part_activation(base, head, state) if head else ""

    def _ordered_parts(self, oid: ObjectId, state: State) -> list[ObjectId]:
        """The parts of a list of modules in their order; empty if that is not known."""
        module = state.module(oid)
        parts = self.run.models.children(oid, state)
        added = any(n.startswith("$") and n != EACH for n, _ in parts)
        if added or (module is not None and module.activation == UNORDERED):
            return []
        if all(n.isdigit() for n, _ in parts):
            return [o for _, o in sorted((int(n), o) for n, o in parts)]
        return [o for n, o in parts if n != EACH]

    def _last_activation(self, oid: ObjectId, state: State) -> str:
        for part in reversed(self._ordered_parts(oid, state)):
            found = self.activation_of(part, state)
            if found != SAME:
                return found
        return ""

    def _part_activation(self, oid: ObjectId, name: str, state: State) -> str:
        attr, _, index = name.partition(".")
        value = state.attrs.get((oid, attr))
        if not isinstance(value, Ref):
            return ""
        if not index:
            return self.activation_of(value.oid, state)
        parts, number = self._ordered_parts(value.oid, state), int(index)
        if not -len(parts) <= number < len(parts):
            return ""
        return self.activation_of(parts[number], state)

    def compared(self, op: str, a: Value, b: Value, state: State) -> Value | None:
        """A comparison whose outcome is known, or that computes with tensors."""
        if isinstance(a, Const) and isinstance(b, Const):
            return _compare_constants(op, a, b)
        if op in ("is", "is not", "==", "!=") and NONE in (a, b):
            other = a if b == NONE else b
            known = not isinstance(other, Ref | Condition | LibraryMethod) or (
                isinstance(other, Ref) and (other.oid in state.heap or is_text(other))
            )
            if known:
                return TRUE if op in ("is not", "!=") else FALSE
            return None
        if op in ("in", "not in") and isinstance(a, Const):
            items = self.run.collections.known_items(b, state)
            if items is not None and all(isinstance(i, Const) for i in items):
                inside = a in items
                return TRUE if inside is (op == "in") else FALSE
        if op in ("==", "!=", ">", "<", ">=", "<=") and (
            isinstance(a, Tensor) or isinstance(b, Tensor)
        ):
            for side in (a, b):
                if isinstance(side, Tensor):
                    self.run.training.measured(side)
            joined = join_values((a, b))
            assert isinstance(joined, Tensor)
            return Tensor(
                attached=Certainty.NO,
                cut=Cut.COMPARISON,
                references=joined.references | joined.forwards,
            )
        return None


def flattened(values: tuple[Value, ...]) -> list[Value]:
    found: list[Value] = []
    for value in values:
        if isinstance(value, TupleValue):
            found.extend(flattened(value.items))
        else:
            found.append(value)
    return found


def _compare_constants(op: str, a: Const, b: Const) -> Value | None:
    x, y = a.value, b.value
    try:
        match op:
            case "==" | "is":
                result: object = x == y
            case "!=" | "is not":
                result = x != y
            case "<":
                result = x < y  # type: ignore[operator]
            case ">":
                result = x > y  # type: ignore[operator]
            case "<=":
                result = x <= y  # type: ignore[operator]
            case ">=":
                result = x >= y  # type: ignore[operator]
            case "in":
                result = x in y  # type: ignore[operator]
            case "not in":
                result = x not in y  # type: ignore[operator]
            case _:
                return None
    except TypeError:
        return None
    return TRUE if result else FALSE
