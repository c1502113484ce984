"""Endless loops that are left at their head: what other loops say in one line."""

from __future__ import annotations

from trainlint.flow import ir


def told(loop: ir.While) -> ir.For | ir.While:
    """The loop as it is written, or in the form that says when it ends."""
    forever = isinstance(loop.test, ir.Literal) and bool(loop.test.value)
    return (_drained(loop) or _headed(loop) or loop) if forever and loop.body else loop


def _headed(loop: ir.While) -> ir.While | None:
    """`while True: if done: break`, which is `while not done`."""
    first = loop.body[0]
    if not isinstance(first, ir.If) or first.orelse or len(first.body) != 1 or loop.orelse:
        return None
    (only,) = first.body
    if not isinstance(only, ir.Jump) or only.kind is not ir.JumpKind.BREAK or not loop.body[1:]:
        return None
    test = ir.UnaryOp("not", first.test, first.node)
    return ir.While(test, loop.body[1:], (), loop.node)


def _drained(loop: ir.While) -> ir.For | None:
    """The `for` that a loop is which asks for the next item until there is none.

    The rest of its body may stand behind the `try` or in it. What the handler does before its
    `break` is done once, where the items end: that is what `else` is to a `for`.
    """
    first = loop.body[0]
    if not isinstance(first, ir.Try) or first.final or not first.body:
        return None
    taken = first.body[0]
    if not isinstance(taken, ir.Assign) or len(taken.targets) != 1:
        return None
    iterator = _asked(taken.value)
    end = _at_the_end(first)
    if iterator is None or end is None:
        return None
    body = (*first.body[1:], *first.orelse, *loop.body[1:])
    return ir.For(taken.targets[0], iterator, body, end, loop.node)


def _asked(e: ir.Expr) -> ir.Expr | None:
    """What `next(...)` is asked of."""
    if not isinstance(e, ir.Call) or not isinstance(e.func, ir.Name) or e.func.id != "next":
        return None
    plain = len(e.args) == 1 and e.args[0].name is None and not e.args[0].star
    iterator = e.args[0].value if plain else None
    return iterator if isinstance(iterator, ir.Name | ir.Attribute) else None


def _at_the_end(tried: ir.Try) -> ir.Block | None:
    """What a handler of `StopIteration` does before it leaves the loop."""
    if len(tried.handlers) != 1:
        return None
    (handler,) = tried.handlers
    last = handler.body[-1] if handler.body else None
    stops = isinstance(handler.type, ir.Name) and handler.type.id == "StopIteration"
    leaves = isinstance(last, ir.Jump) and last.kind is ir.JumpKind.BREAK
    return handler.body[:-1] if stops and leaves else None
