"""Lists, tuples, dictionaries and what is taken from them or put in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from trainlint.core.events import (
    GraphKept,
)
from trainlint.core.facts import (
    Certainty,
)
from trainlint.flow import ir
from trainlint.flow.frames import Frame
from trainlint.flow.models import LOADED
from trainlint.flow.naming import EACH
from trainlint.flow.state import (
    InstanceObject,
    LibraryObject,
    ListObject,
    ModuleObject,
    OptimizerObject,
    ParametersObject,
    SchedulerObject,
    State,
    join_values,
)
from trainlint.flow.values import (
    MAX_ITEMS,
    NONE,
    ClassValue,
    Const,
    External,
    Forward,
    Func,
    ObjectId,
    Ref,
    Tensor,
    TupleValue,
    Value,
    const,
    is_small,
)
from trainlint.libraries import LIBRARY
from trainlint.libraries.spec import OptimizerClass

if TYPE_CHECKING:
    from trainlint.flow.frames import Evaluated
    from trainlint.flow.interpret import Interpreter

_KEPT = (ModuleObject, OptimizerObject, SchedulerObject, InstanceObject)
"""What a dictionary under names that are not known is asked for again: `optimizers[task]`."""

_MAX_ZIPS = 6
_MAX_CLASSES = 3
_LOADER_NAME = re.compile(r"(data)?_?loaders?\b|_(dl|iter)\b|\bbatches\b", re.IGNORECASE)


ANY_OPTIMIZER = External("torch.optim.Optimizer")
"""A class of torch's optimizers, whichever the settings name."""


def _in_order(values: frozenset[Value]) -> list[Value]:
    """A set in an order that does not depend on hashes, where any order shows: of tensors alone."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    others = [value for value in values if not isinstance(value, Tensor)]
    return [*sorted(tensors, key=str), *others]


class Collections:
    """Lists, tuples, dictionaries and what is taken from them or put in."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter
        self.kept_graphs: list[tuple[GraphKept, Tensor]] = []
        self.data_items: set[ObjectId] = set()
        self.tensors: set[ObjectId] = set()
        """Unknown tensors: copies of what has a `clone`."""
        self.leaves: set[ObjectId] = set()
        """Tensors that are no module's and whose gradients are wanted, such as an image's."""
        self._depth = 0

    def is_data(self, value: Value) -> bool:
        """What a loader gave or a constructor made, or is computed from it: it has no graph."""
        return self._drawn(value) is not None

    def _drawn(self, value: Value) -> ObjectId:
        """The batch that a value is a part of."""
        while isinstance(value, Ref) and isinstance(value.oid, tuple):
            if value.oid in self.data_items:
                return value.oid
            if value.oid[0] != "attr":
                return None
            inner = value.oid[1]
            value = inner if isinstance(inner, Ref) else Ref(inner)
        return None

    def more_data(self, values: tuple[Value, ...], op: str) -> Value:
        """What is computed from data and constants alone."""
        for value in values:
            if isinstance(value, Ref) and self.is_data(value):
                oid = value.oid
                while isinstance(oid, tuple) and isinstance(oid[-1], str) and oid[-1][:1] == "(":
                    oid = oid[1]  # one operation is enough: loops would nest them without end
                return Ref(("attr", oid, f"({op})"))
        return Ref(("computed", op))

    def hold_no_graph(self, made: Evaluated) -> None:
        """Tensors of numbers: data like a loader's."""
        self.data_items.update(value.oid for _, value in made if isinstance(value, Ref))

    def all_data(self, values: tuple[Value, ...]) -> bool:
        """Whether what is computed from these, and from constants, is data."""
        return all(isinstance(v, Const) or self.is_data(v) for v in values) and any(
            map(self.is_data, values)
        )

    def wants_gradient(self, value: Value, certainly_tensor: bool = False) -> None:
        """`x.requires_grad_()`: what is computed from this tensor has a graph."""
        if isinstance(value, Ref) and (certainly_tensor or self.is_tensor(value)):
            self.leaves.add(value.oid)
        self.data_items.discard(self._drawn(value))

    def leaves_are(self, made: Evaluated) -> None:
        """Tensors made with `requires_grad=True`, or as a parameter."""
        self.leaves.update(value.oid for _, value in made if isinstance(value, Ref))

    def is_tensor(self, value: Ref) -> bool:
        """Whether something unknown is a tensor for certain."""
        return value.oid in self.tensors or value.oid in self.leaves or self.is_data(value)

    def is_leaf(self, value: Value, state: State) -> bool:
        """Whether an optimizer that is given this moves tensors of its own, not a model's."""
        match value:
            case Tensor(leaf=leaf):
                return leaf
            case TupleValue(items=items):
                return bool(items) and all(self.is_leaf(item, state) for item in items)
            case Ref(oid=oid) if oid in self.leaves:
                return True
            case Ref(oid=oid):
                thing = state.heap.get(oid)
                if isinstance(thing, ModuleObject):
                    # Taken for a module as it has `requires_grad_`: no optimizer takes a module.
                    return not thing.library and thing.cls is None
                if not isinstance(thing, ListObject) or not thing.items:
                    return False
                if thing.keys is not None:
                    given = dict(zip(thing.keys, thing.items, strict=True)).get(const("params"))
                    return given is not None and self.is_leaf(given, state)
                return all(self.is_leaf(item, state) for item in thing.items)
            case _:
                return False

    def new_list(self, values: tuple[Value, ...], state: State, frame: Frame, node: ir.Node) -> Ref:
        """A list of known items."""
        ref = self.run.fresh(state, frame, node, "list")
        state.heap[ref.oid] = ListObject(values)
        return ref

    def new_dict(
        self,
        keys: tuple[Value, ...] | None,
        values: tuple[Value, ...],
        state: State,
        frame: Frame,
        node: ir.Node,
    ) -> Ref:
        """A dict; with unknown keys only the values are kept."""
        ref = self.run.fresh(state, frame, node, "dict")
        if keys is not None:
            state.heap[ref.oid] = ListObject(values, keys=keys)
        else:
            state.heap[ref.oid] = ListObject(None, frozenset(values))
        return ref

    def new_summary(self, value: Value, state: State, frame: Frame, node: ir.Node) -> Ref:
        """A list of unknown length whose items all look like `value`."""
        ref = self.run.fresh(state, frame, node, "list")
        state.heap[ref.oid] = ListObject(None, frozenset({value}))
        return ref

    def distinct(self, value: Value, index: int, state: State) -> Value:
        """The `index`-th object that one expression made."""
        if index == 0 or not isinstance(value, Ref) or not isinstance(value.oid, tuple):
            return value
        if value.oid[:1] != ("new",) or value.oid not in state.heap:
            return value
        other = ("each", index, value.oid)
        state.heap[other] = state.heap[value.oid]
        for name, held in state.attrs.of(value.oid):
            state.attrs[other, name] = held
        return Ref(other)

    def batch(self, method: Func) -> Ref:
        """What a framework's loader gives to a method."""
        ref = Ref(("batch", method.module.path, method.function.node))
        self.data_items.add(ref.oid)
        return ref

    def some_of(self, value: Value, state: State) -> tuple[Value, ...]:
        """Everything that can be in a list of unknown length; nothing if that is not known."""
        thing = state.heap.get(value.oid) if isinstance(value, Ref) else None
        if not isinstance(thing, ListObject):
            return ()
        some = sorted(thing.summary, key=str)
        lists = any(
            isinstance(v, Ref) and isinstance(state.heap.get(v.oid), ListObject) for v in some
        )
        return () if lists else tuple(some)

    def known_items(self, value: Value, state: State) -> tuple[Value, ...] | None:
        """The items of a list or tuple, if all are known and they are not too many."""
        items = self._items(value, state)
        return items if items is None or len(items) <= MAX_ITEMS else None

    def _items(self, value: Value, state: State) -> tuple[Value, ...] | None:
        match value:
            case TupleValue(items=items):
                return items
            case Ref(oid=oid):
                thing = state.heap.get(oid)
                if isinstance(thing, ListObject):
                    return thing.keys if thing.keys is not None else thing.items
                if isinstance(thing, LibraryObject) and thing.role in ("zip", "enumerate"):
                    with self._within() as shallow:
                        return self._zipped(thing, state) if shallow else None
                if isinstance(thing, ModuleObject) and thing.library in (
                    "torch.nn.ModuleList",
                    "torch.nn.Sequential",
                ):
                    parts = [
                        (n, Ref(o)) for n, o in self.run.models.children(oid, state) if n.isdigit()
                    ]
                    if parts and (oid, EACH) not in state.attrs:
                        return tuple(r for _, r in sorted(parts, key=lambda p: int(p[0])))
        return None

    def _zipped(self, thing: LibraryObject, state: State) -> tuple[Value, ...] | None:
        if thing.role == "enumerate":
            items = self.known_items(thing.links[0][1], state)
            start = thing.link("start") or const(0)
            if items is None or not isinstance(start, Const) or not isinstance(start.value, int):
                return None
            return tuple(TupleValue((const(i), v)) for i, v in enumerate(items, start.value))
        columns = [self.known_items(v, state) for _, v in thing.links]
        if not columns or any(c is None for c in columns):
            return None
        rows = tuple(TupleValue(row) for row in zip(*(c or () for c in columns), strict=False))
        return rows if is_small(rows[:1], MAX_ITEMS) else None

    @contextmanager
    def _within(self) -> Iterator[bool]:
        """Go into what was zipped; False where zips lie in zips too deep to be told apart."""
        self._depth += 1
        try:
            yield self._depth <= _MAX_ZIPS
        finally:
            self._depth -= 1

    def iterates_parameters(self, value: Value, state: State) -> bool:
        """Whether a loop over the value visits parameters, numbered or not."""
        thing = state.heap.get(value.oid) if isinstance(value, Ref) else None
        if isinstance(thing, LibraryObject) and thing.role == "enumerate":
            value = thing.links[0][1]
        return self.run.models.is_parameters(value, state)

    @staticmethod
    def is_part(element: Value) -> bool:
        """Whether a loop's element is any part of a module."""
        items = element.items if isinstance(element, TupleValue) else (element,)
        return any(
            isinstance(i, Ref) and isinstance(i.oid, tuple) and i.oid[-1:] == (EACH,) for i in items
        )

    @staticmethod
    def first_element(iterable: Value, element: Value, state: State) -> Value:
        """What a loop binds in its first round, where counting tells more."""
        thing = state.heap.get(iterable.oid) if isinstance(iterable, Ref) else None
        start = thing.link("start") if isinstance(thing, LibraryObject) else None
        if not isinstance(start, Const) or start.kind != "int":
            return element
        if isinstance(element, TupleValue):
            return TupleValue((start, *element.items[1:]))
        return start

    def element(self, value: Value, state: State, frame: Frame, node: ir.Node) -> Value:
        """What a loop binds in one of its rounds."""
        item = Ref(("item", frame.module.path, node.node, frame.id))
        match value:
            case Tensor():
                return value
            case Ref(oid=oid):
                thing = state.heap.get(oid)
                match thing:
                    case ParametersObject():
                        self.run.models.consume(
                            value, state, frame, node, "the parameters", "this loop"
                        )
                        return self.run.models.element_of_parameters(value, state)
                    case ListObject(items=items, summary=summary):
                        return self._any_of((*(items or ()), *_in_order(summary)), item)
                    case LibraryObject(role="loader"):
                        self.data_items.add(item.oid)
                        return item
                    case LibraryObject(role="zip", links=links):
                        with self._within() as shallow:
                            columns = enumerate(links) if shallow else ()
                            row = [self._column(v, i, state, frame, node) for i, (_, v) in columns]
                        return TupleValue(tuple(row)) if row else item
                    case LibraryObject(role="enumerate", links=links):
                        return TupleValue((item, self._column(links[0][1], 1, state, frame, node)))
                    case LibraryObject(role="modules", links=links):
                        part = links[0][1]
                        named = thing.path.startswith("named")
                        return TupleValue((Ref(("name", item.oid)), part)) if named else part
                    case None if _names_a_loader(node, oid) or self.is_data(value):
                        self.data_items.add(item.oid)
                        return item
                    case None if self.run.models.is_inside(oid, state):
                        return Ref(("attr", oid, EACH))
                    case _:
                        return item
            case _:
                return item

    def _column(self, value: Value, i: int, state: State, frame: Frame, node: ir.Node) -> Value:
        found = self.element(value, state, frame, node)
        if isinstance(found, Ref) and isinstance(found.oid, tuple) and found.oid[0] == "item":
            return Ref(("attr", found.oid, i))
        return found

    @staticmethod
    def _any_of(values: tuple[Value, ...], otherwise: Value) -> Value:
        distinct = list(dict.fromkeys(values))
        if len(distinct) == 1:
            return distinct[0]
        return join_values(distinct) or otherwise

    def item_of(self, value: Value, index: int, state: State, frame: Frame, node: ir.Node) -> Value:
        """The `index`-th part of a value that is unpacked."""
        match value:
            case Tensor():
                return _taken(value, index)
            case TupleValue(items=items) if index < len(items):
                return items[index]
            case Ref(oid=oid):
                thing = state.heap.get(oid)
                if isinstance(thing, ListObject):
                    return self._any_of(
                        (*(thing.items or ()), *thing.summary), Ref(("attr", oid, index))
                    )
                if isinstance(thing, LibraryObject) and thing.role == "prepared":
                    return thing.links[index][1] if index < len(thing.links) else NONE
                return Ref(("attr", oid, index))
            case _:
                return Ref(("attr", value, index))

    def classes_of(self, thing: Value, key: Value, state: State) -> tuple[ClassValue, ...]:
        """The classes that `RUNNERS[kind]` may be: a few, all known, and none of them a module."""
        table = state.heap.get(thing.oid) if isinstance(thing, Ref) else None
        if not isinstance(table, ListObject) or table.keys is None or isinstance(key, Const):
            return ()
        items = table.items or ()
        classes = tuple(v for v in items if isinstance(v, ClassValue) and not v.info.is_module)
        few = 1 < len(classes) == len(items) <= _MAX_CLASSES
        return classes if few else ()

    def subscript(
        self, thing: Value, key: Value, state: State, frame: Frame, e: ir.Subscript
    ) -> Value:
        """`thing[key]`."""
        if not (is_small(key) and is_small(thing)):
            key = Ref(("index", frame.module.path, e.node))
            if isinstance(thing, Ref) and not is_small(thing) and thing.oid not in state.heap:
                thing = key
        index = key.value if isinstance(key, Const) else None
        bounds = written_slice(e.index)
        if bounds is not None and (several := self._ordered(thing, state)) is not None:
            some = several[bounds]
            return (
                TupleValue(some)
                if isinstance(thing, TupleValue)
                else self.new_list(some, state, frame, e)
            )
        match thing:
            case Tensor():
                if index is None:
                    # Rows of a batch, `out[mask]`, are what all are; columns are not.
                    rows = not thing.parts and not isinstance(e.index, ir.Sequence)
                    chosen_by = _tensors_in(key)
                    return replace(
                        thing,
                        activation=thing.activation if rows else "",
                        parts=(),
                        references=thing.references.union(*chosen_by),
                    )
                return _taken(thing, index)
            case TupleValue(items=items):
                if isinstance(index, int) and -len(items) <= index < len(items):
                    return items[index]
                return self._any_of(items, Ref(("attr", thing, key)))
            case External(path=path):
                return thing if path[-1:].isalpha() and "." in path else Ref(("attr", thing, key))
            case Ref() if isinstance(key, Tensor):
                return Tensor(references=key.forwards | key.references)
            case Ref(oid=oid):
                return self._object_item(oid, key, index, state)
            case _:
                return Ref(("attr", thing, key))

    @staticmethod
    def _ordered(thing: Value, state: State) -> tuple[Value, ...] | None:
        """The items of a list or tuple, if each is known."""
        if isinstance(thing, TupleValue):
            return thing.items
        held = state.heap.get(thing.oid) if isinstance(thing, Ref) else None
        return held.items if isinstance(held, ListObject) and held.keys is None else None

    def _object_item(self, oid: ObjectId, key: Value, index: object, state: State) -> Value:
        # A key can be long to spell: most things had nothing put into them.
        if any(name.startswith("[") for name, _ in state.attrs.of(oid)):
            stored = state.attrs.get((oid, f"[{key}]"))
            if stored is not None:
                return stored
        thing = state.heap.get(oid)
        if isinstance(thing, ListObject):
            if thing.keys is not None and thing.items is not None:
                for known, item in zip(thing.keys, thing.items):
                    if known == key:
                        return item
                unknown = {v for k, v in zip(thing.keys, thing.items) if not isinstance(k, Const)}
                if len(unknown) == 1:
                    # `self.models[task]`, put there as `self.models[name]` in another loop.
                    return unknown.pop()
            elif thing.items is not None and isinstance(index, int):
                if -len(thing.items) <= index < len(thing.items):
                    return thing.items[index]
            several = (*(thing.items or ()), *thing.summary)
            if len(several) > 1 and len({_optimizer(item) for item in several} - {None}) == 1:
                # `OPTIMIZERS[args.optimizer](...)`: whichever it is, it steps alike.
                return next(item for item in several if _optimizer(item) is not None)
            return self._any_of(several, Ref(("attr", oid, key)))
        if isinstance(thing, ModuleObject):
            name = self._part_at(oid, index, state)
            held = state.attrs.get((oid, name))
            return held if held is not None else Ref(("attr", oid, name))
        if self.run.models.is_inside(oid, state):
            return Ref(("attr", oid, EACH if index is None else str(index)))
        return Ref(("attr", oid, key))

    def _part_at(self, oid: ObjectId, index: object, state: State) -> str:
        """Under which name a list of modules holds what stands there: `-1` counts from the end."""
        if isinstance(index, int) and index < 0:
            items = self._items(Ref(oid), state)
            if items is not None and -index <= len(items):
                return str(len(items) + index)
        if isinstance(index, int) and (oid, str(index)) not in state.attrs:
            # What a loop appends stands for all that it appends.
            appended = [
                name for name, _ in state.attrs.of(oid) if name.startswith("$") and name != EACH
            ]
            if len(appended) == 1:
                return appended[0]
        return EACH if index is None else str(index)

    @staticmethod
    def is_buffer(thing: Value, state: State) -> bool:
        """A tensor, or what a call returned and may be one: `targets = torch.zeros(n)`."""
        if isinstance(thing, Tensor):
            return True
        return (
            isinstance(thing, Ref)
            and isinstance(thing.oid, tuple)
            and thing.oid[0] in ("result", LOADED)
            and thing.oid not in state.heap
        )

    def set_item(
        self,
        thing: Value,
        key: Value,
        value: Value,
        state: State,
        frame: Frame,
        node: ir.Node,
    ) -> None:
        """`thing[key] = value`."""
        if not isinstance(thing, Ref):
            return
        found = state.heap.get(thing.oid)
        kept = state.heap.get(value.oid) if isinstance(value, Ref) else None
        made = isinstance(kept, ModuleObject)
        if found is None and made and self.run.models.is_inside(thing.oid, state):
            found = self.run.models.promote(thing.oid, state)
        if isinstance(found, ListObject):
            if found.keys is not None and found.items is not None and key in found.keys:
                items = tuple(value if k == key else v for k, v in zip(found.keys, found.items))
                state.heap[thing.oid] = replace(found, items=items)
            elif (
                found.keys is not None
                and found.items is not None
                and (isinstance(key, Const) or (isinstance(kept, _KEPT) and is_small(key)))
            ):
                state.heap[thing.oid] = ListObject((*found.items, value), keys=(*found.keys, key))
            else:
                both = frozenset(found.items or found.summary) | {value}
                state.heap[thing.oid] = ListObject(None, both)
        elif isinstance(found, ModuleObject) and isinstance(value, Ref):
            name = self._part_at(thing.oid, key.value if isinstance(key, Const) else None, state)
            if state.module(value.oid) is not None:
                self.run.models.replace_part(
                    thing.oid,
                    name,
                    value,
                    state,
                    frame,
                    node,
                    self.run.names.name_of(thing.oid, state),
                )
        elif isinstance(key, Const):
            state.attrs[thing.oid, f"[{key}]"] = value

    def extend(self, thing: Ref, value: Value, state: State) -> None:
        """`list += other`."""
        found = state.heap.get(thing.oid)
        if not isinstance(found, ListObject):
            return
        more = self.known_items(value, state)
        if found.items is not None and more is not None and len(found.items) < 12:
            state.heap[thing.oid] = ListObject((*found.items, *more))
        else:
            other = frozenset(more or ()) if more is not None else frozenset({value})
            state.heap[thing.oid] = ListObject(
                None, frozenset(found.items or found.summary) | other
            )

    def kept(
        self, s: ir.Node, name: str, old: Value, new: Value, state: State, frame: Frame
    ) -> None:
        """`total += loss` in a loop."""
        if (
            isinstance(new, Tensor)
            and new.attached is Certainty.YES
            and self.run.loops
            and state.grad.on is Certainty.YES
        ):
            self.kept_graphs.append(
                (GraphKept(site=self.run.site(frame, s), name="the loss", keeper=name), new)
            )


def _optimizer(value: Value) -> OptimizerClass | None:
    """The class of optimizers that a value is."""
    made = LIBRARY.call(LIBRARY.canonical(value.path)) if isinstance(value, External) else None
    return made if isinstance(made, OptimizerClass) else None


def _names_a_loader(node: ir.Node, oid: ObjectId) -> bool:
    """Whether a loop draws from what is called a loader: batches of data, and no graph in them."""
    if isinstance(oid, tuple) and oid[0] == "param" and _LOADER_NAME.search(str(oid[-1])):
        return True
    iterable = getattr(node, "iter", None)
    # `enumerate(train_loader)` draws from what it is given.
    drawn = [a.value for a in iterable.args] if isinstance(iterable, ir.Call) else []
    names = [ir.spelled(e) for e in (iterable, *drawn) if e is not None]
    return any(_LOADER_NAME.search(name) for name in names)


def written_slice(index: ir.Expr) -> slice | None:
    """`[1:]`, `[:-1]`: a slice whose bounds are written out."""
    if not (isinstance(index, ir.Sequence) and index.kind is ir.SequenceKind.SLICE):
        return None
    bounds = [_written_bound(bound) for bound in index.items]
    known = [b for b in bounds if b is None or (isinstance(b, int) and not isinstance(b, bool))]
    if len(known) < len(bounds) or known[2:] == [0]:
        return None
    return slice(*known)


def _written_bound(bound: ir.Expr) -> object:
    match bound:
        case ir.Literal(value=value):
            return value
        case ir.UnaryOp(op="-", value=ir.Literal(value=int(value))):
            return -value
        case _:
            return bound


def _taken(outputs: Tensor, key: object) -> Tensor:
    """One of several outputs."""
    if not outputs.parts:
        return outputs
    if isinstance(key, int) and key < 0:
        key += len(outputs.parts)
    return replace(outputs, activation=dict(outputs.parts).get(key, ""), parts=())


def _tensors_in(key: Value) -> list[frozenset[Forward]]:
    """The forwards whose results choose what is taken: `values[rows, best]`."""
    keys = key.items if isinstance(key, TupleValue) else (key,)
    return [k.forwards | k.references for k in keys if isinstance(k, Tensor)]
