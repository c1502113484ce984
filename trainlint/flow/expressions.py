"""Expressions other than names, attributes and calls."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING

from trainlint.flow import ir
from trainlint.flow.frames import (
    MAX_UNROLLED,
    Evaluated,
    Frame,
    Loop,
)
from trainlint.flow.ir import spelled
from trainlint.flow.iteration import loop_word
from trainlint.flow.state import (
    ParametersObject,
    State,
)
from trainlint.flow.values import (
    FALSE,
    MAX_ITEMS,
    NONE,
    TRUE,
    Condition,
    Const,
    Func,
    ParameterSource,
    Ref,
    Tensor,
    TupleValue,
    Value,
    condition_key,
    const,
    is_small,
    value_key,
)

if TYPE_CHECKING:
    from trainlint.flow.interpret import Interpreter


class Expressions:
    """Expressions other than names, attributes and calls."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    def value(self, e: ir.Expr, state: State, frame: Frame) -> Evaluated:
        match e:
            case ir.Call():
                return self.run.calls.call_expression(e, state, frame)
            case ir.Literal(value=value):
                try:
                    return [(state, const(value))]
                except TypeError:
                    return [(state, self.run.fresh(state, frame, e))]
            case ir.Compare():
                return self._compare(e, state, frame)
            case ir.BoolOp():
                return self._bool_value(e, state, frame)
            case ir.BinOp(left=left, op=op, right=right):
                return [
                    (st, self._arithmetic(op, a, b, st, frame, e))
                    for st, (a, b) in self.run.eval_all((left, right), state, frame)
                ]
            case ir.UnaryOp(op="not"):
                return [
                    (st, TRUE if truth else FALSE)
                    for st, truth, _ in self.run.branches.truths(e, state, frame)
                ]
            case ir.UnaryOp(value=inner):
                return [
                    (st, self._negated(v, st, frame, e))
                    for st, v in self.run.eval(inner, state, frame)
                ]
            case ir.IfExp(test=test, body=body, orelse=orelse):
                return self._conditional(test, body, orelse, state, frame)
            case ir.Subscript(value=owner, index=index):
                return [
                    taken
                    for st, (thing, key) in self.run.eval_all((owner, index), state, frame)
                    for taken in self._taken(thing, key, st, frame, e)
                ]
            case ir.Sequence():
                return self._display(e, state, frame)
            case ir.Mapping(items=items):
                return self._mapping(items, state, frame, e)
            case ir.Comprehension():
                return self.comprehension(e, state, frame)
            case ir.Lambda(function=function):
                return [(state, Func(function, frame.module, frame.id, frame.cls))]
            case ir.Walrus(target=target, value=value):
                pairs = self.run.eval(value, state, frame)
                for st, v in pairs:
                    self.run.scopes.store_name(target.id, v, st, frame)
                return pairs
            case ir.Await(value=value) | ir.Starred(value=value):
                return self.run.eval(value, state, frame)
            case ir.Yield():
                return [
                    (st, self.run.fresh(st, frame, e))
                    for st in self.run.contexts.yielded(e, state, frame)
                ]
            case ir.Name() | ir.Attribute():
                raise AssertionError("answered by `eval`")

    def _conditional(
        self, test: ir.Expr, body: ir.Expr, orelse: ir.Expr, state: State, frame: Frame
    ) -> Evaluated:
        yes, no, undetermined = self.run.branches.split(test, state, frame)
        first = [r for st in yes for r in self.run.eval(body, st, frame)]
        second = [r for st in no for r in self.run.eval(orelse, st, frame)]
        if undetermined and len(first) == 1 and len(second) == 1:
            (a, left), (b, right) = first[0], second[0]
            if left == right and a.key() == b.key():
                return first
        if undetermined:
            for st, _ in first:
                st.decisions |= {(undetermined, True)}
            for st, _ in second:
                st.decisions |= {(undetermined, False)}
        return [*first, *second]

    def _bool_value(self, e: ir.BoolOp, state: State, frame: Frame) -> Evaluated:
        """`a or b`, `a and b`: the value that decides."""
        stops = e.op == "or"
        going: Evaluated = [(state, NONE)]
        done: Evaluated = []
        for i, operand in enumerate(e.values):
            after: Evaluated = []
            for st, _ in going:
                for st2, value in self.run.eval(operand, st, frame):
                    if i == len(e.values) - 1:
                        done.append((st2, value))
                        continue
                    for st3, truth, _ in self.run.branches.truth_of(value, st2):
                        (done if truth is stops else after).append((st3, value))
            going = self.run.bounded(after)
        return self.run.bounded(done)

    def _compare(self, e: ir.Compare, state: State, frame: Frame) -> Evaluated:
        results: Evaluated = []
        for st, (a, b) in self.run.eval_all((e.left, e.right), state, frame):
            known = self.run.tensors.compared(e.op, a, b, st)
            if known is not None:
                results.append((st, known))
                continue
            results.append((st, comparison(e.op, a, b) or self.run.fresh(st, frame, e)))
        return results

    def _arithmetic(
        self, op: str, a: Value, b: Value, state: State, frame: Frame, e: ir.BinOp
    ) -> Value:
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            return self.run.tensors.combine((a, b), op, state)
        if isinstance(a, Const) and isinstance(b, Const):
            folded = fold(op, a, b)
            if folded is not None:
                return folded
        for side in (a, b):
            if isinstance(side, Ref) and isinstance(state.heap.get(side.oid), ParametersObject):
                return self.run.models.concatenate((a, b), state, frame, e)
        first = self.run.collections.known_items(a, state)
        second = self.run.collections.known_items(b, state)
        if op == "+" and first is not None and second is not None:
            return self.run.collections.new_list((*first, *second), state, frame, e)
        key = ("expr", op, value_key(a), value_key(b))
        result = Ref(key) if is_small(key) else self.run.fresh(state, frame, e)
        if self.run.collections.all_data((a, b)):
            self.run.collections.hold_no_graph([(state, result)])
        return result

    def _negated(self, value: Value, state: State, frame: Frame, e: ir.UnaryOp) -> Value:
        if isinstance(value, Tensor):
            return replace(value, activation="")
        if isinstance(value, Const) and e.op == "-" and isinstance(value.value, int | float):
            return const(-value.value)
        result = Ref(("expr", e.op, value_key(value)))
        if self.run.collections.is_data(value):
            self.run.collections.hold_no_graph([(state, result)])
        return result

    def _taken(
        self, thing: Value, key: Value, state: State, frame: Frame, e: ir.Subscript
    ) -> Evaluated:
        """`thing[key]`; of a few classes that do the work, each is tried."""
        classes = self.run.collections.classes_of(thing, key, state)
        if not classes:
            return [(state, self.run.collections.subscript(thing, key, state, frame, e))]
        first, *others = classes
        return [*((state.copy(), other) for other in others), (state, first)]

    def _display(self, e: ir.Sequence, state: State, frame: Frame) -> Evaluated:
        results: Evaluated = []
        plain = tuple(x.value if isinstance(x, ir.Starred) else x for x in e.items)
        starred = any(isinstance(x, ir.Starred) for x in e.items)
        for st, values in self.run.eval_all(plain, state, frame):
            if e.kind is ir.SequenceKind.TEXT:
                results.append((st, Ref(("text", frame.module.path, e.node))))
            elif e.kind is ir.SequenceKind.SLICE:
                results.append((st, Ref(("slice", frame.module.path, e.node))))
            elif starred:
                results.append((st, self._starred(e, values, st, frame)))
            elif e.kind is ir.SequenceKind.TUPLE:
                known = is_small(values, MAX_ITEMS)
                tuple_ = TupleValue(values) if known else Ref(("tuple", frame.module.path, e.node))
                results.append((st, tuple_))
            else:
                results.append((st, self.run.collections.new_list(values, st, frame, e)))
        return results

    def _starred(
        self, e: ir.Sequence, values: tuple[Value, ...], state: State, frame: Frame
    ) -> Value:
        items: list[Value] = []
        for part, value in zip(e.items, values):
            inner = (
                self.run.collections.known_items(value, state)
                if isinstance(part, ir.Starred)
                else None
            )
            if inner is not None:
                items.extend(inner)
            elif isinstance(part, ir.Starred):
                return self.run.models.concatenate(values, state, frame, e)
            else:
                items.append(value)
        return self.run.collections.new_list(tuple(items), state, frame, e)

    def _mapping(
        self,
        items: tuple[tuple[ir.Expr | None, ir.Expr], ...],
        state: State,
        frame: Frame,
        e: ir.Mapping,
    ) -> Evaluated:
        results: Evaluated = []
        exprs = tuple(x for pair in items for x in pair if x is not None)
        for st, values in self.run.eval_all(exprs, state, frame):
            rest = iter(values)
            keys: list[Value] = []
            found: list[Value] = []
            known = True
            for key, _ in items:
                if key is None:
                    known = False
                    found.append(next(rest))
                else:
                    keys.append(next(rest))
                    found.append(next(rest))
            results.append(
                (
                    st,
                    self.run.collections.new_dict(
                        tuple(keys) if known else None, tuple(found), st, frame, e
                    ),
                )
            )
        return results

    def comprehension(self, e: ir.Comprehension, state: State, frame: Frame) -> Evaluated:
        """Evaluate the element once for an arbitrary (or for each known) item."""
        generator = e.generators[0]
        results: Evaluated = []
        for st, iterable in self._drained(generator.iter, state, frame):
            filtered = self.run.models.filtered(e, iterable, st, frame)
            if filtered is not None:
                results.append((st, filtered))
                continue
            items = self.run.collections.known_items(iterable, st)
            if (
                items is not None
                and len(items) <= MAX_UNROLLED
                and len(e.generators) == 1
                and not generator.conditions
            ):
                results.extend(self._each(e, items, st, frame))
            elif (nested := self._nested(e, items, st, frame)) is not None:
                results.append((st, nested))
            else:
                results.extend(self._any_element(e, iterable, st, frame))
        return results

    def _drained(self, e: ir.Expr, state: State, frame: Frame) -> Evaluated:
        """An iterable; what a generator of the project gives, once it has run."""
        results: Evaluated = []
        for st, iterable in self.run.eval(e, state, frame):
            drained = self.run.suspended.drained(iterable, st, frame, e)
            results.extend([(st, iterable)] if drained is None else drained)
        return results

    def _nested(
        self, e: ir.Comprehension, items: tuple[Value, ...] | None, state: State, frame: Frame
    ) -> Value | None:
        """`[p for m in models.values() for p in m.parameters()]` over modules that are known."""
        first, *others = e.generators
        if len(others) != 1 or not items or len(items) > MAX_UNROLLED or first.conditions:
            return None
        inner = ir.Comprehension(e.kind, e.element, tuple(others), e.key, e.node)
        found: list[ParameterSource] = []
        for item in items:
            self.run.scopes.store(first.target, item, state, frame, e)
            results = self.run.eval(others[0].iter, state, frame)
            if len(results) != 1:
                return None
            after, iterable = results[0]
            taken = self.run.models.filtered(inner, iterable, after, frame)
            sources = self.run.models.sources(taken, after) if taken is not None else None
            if sources is None or after is not state:
                return None
            found.extend(sources)
        return self.run.models.taken(tuple(dict.fromkeys(found)), state, frame, e)

    def _each(
        self, e: ir.Comprehension, items: tuple[Value, ...], state: State, frame: Frame
    ) -> Evaluated:
        going: list[tuple[State, tuple[Value, ...]]] = [(state, ())]
        turns = self.run.turns
        try:
            for i, item in enumerate(items):
                self.run.turns = (*turns, i)
                after: list[tuple[State, tuple[Value, ...]]] = []
                for st, values in going:
                    self.run.scopes.store(e.generators[0].target, item, st, frame, e)
                    for st2, value in self.run.eval(e.element, st, frame):
                        made = self.run.collections.distinct(value, i, st2)
                        after.append((st2, (*values, made)))
                going = after
        finally:
            self.run.turns = turns
        return [(st, self.run.collections.new_list(values, st, frame, e)) for st, values in going]

    def _any_element(
        self, e: ir.Comprehension, iterable: Value, state: State, frame: Frame
    ) -> Evaluated:
        generator = e.generators[0]
        loop = Loop(
            loop_word(generator.target, generator.iter),
            loaders=(spelled(generator.iter),),
            draw=self.run.epochs.draws(iterable, state),
        )
        element = self.run.collections.element(iterable, state, frame, generator)
        self.run.loops.append(loop)
        try:
            self.run.iteration.bind_item(generator.target, element, state, frame, e)
            going = [state]
            for inner in e.generators[1:]:
                after = []
                for st in going:
                    for st2, value in self.run.eval(inner.iter, st, frame):
                        self.run.iteration.bind_item(
                            inner.target,
                            self.run.collections.element(value, st2, frame, inner),
                            st2,
                            frame,
                            e,
                        )
                        after.append(st2)
                going = after
            results: Evaluated = []
            for st in going:
                for st2, value in self.run.eval(e.element, st, frame):
                    if e.key is not None:
                        self.run.eval(e.key, st2, frame)
                    results.append((st2, self.run.collections.new_summary(value, st2, frame, e)))
            return results
        finally:
            self.run.loops.pop()


_NEGATED = {"!=": "==", "is not": "is", "not in": "in", ">=": "<", "<=": ">"}


def comparison(op: str, a: Value, b: Value) -> Condition | None:
    """A comparison that is not known, in a form that recognises its negation."""
    positive = op not in _NEGATED
    plain = _NEGATED.get(op, op)
    if plain in ("==", "is") and b in (TRUE, FALSE) and not isinstance(a, Const):
        question, yes = condition_key(a)
        same = yes is (b == TRUE)
        return Condition(question, positive is same) if is_small(question) else None
    first, second = value_key(a), value_key(b)
    if plain == "<":
        plain, first, second = ">", second, first
    if plain in ("==", "is"):
        if isinstance(a, Const) and not isinstance(b, Const):
            first, second = second, first
        key: Hashable = ("eq", first, second)
    else:
        key = ("cmp", plain, first, second)
    return Condition(key, positive) if is_small(key) else None


def fold(op: str, a: Const, b: Const) -> Const | None:
    """Arithmetic on small known numbers."""
    x, y = a.value, b.value
    if not (isinstance(x, int | float) and isinstance(y, int | float)):
        return None
    if abs(x) > 1e9 or abs(y) > 1e9:
        return None
    try:
        match op:
            case "+":
                return const(x + y)
            case "-":
                return const(x - y)
            case "*":
                return const(x * y)
            case _:
                return None
    except (ArithmeticError, TypeError):
        return None
