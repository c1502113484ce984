"""Where a model is used: at the calls of its methods, not inside them.

`model.encode(x)` runs the embedding and the encoder of a model; who has to turn gradients off is
the function that calls `encode`, for a loss may be computed through the same method elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trainlint.core.facts import Site
from trainlint.flow import ir
from trainlint.flow.frames import Frame
from trainlint.flow.naming import is_evaluation_name
from trainlint.flow.state import State
from trainlint.flow.values import ObjectId, Ref

if TYPE_CHECKING:
    from trainlint.flow.interpret import Interpreter


class Use(NamedTuple):
    """A call of a model or of a method of it that is no user of the model by itself."""

    site: Site
    function: str
    """The function that makes the call."""
    name: str
    """What the model is called there."""


class Outside:
    """Looks for the callers of a model's own methods."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter

    def past(self, wrapper: ObjectId, state: State, frame: Frame, node: ir.Node) -> Site:
        """Where a call goes past a wrapper: outside of what is wrapped, whose methods call on."""
        own = {Ref(part) for part in self.run.models.reach(wrapper, state)}
        site, current = self.run.site(frame, node), frame
        while current.receiver in own and current.called is not None and current.caller is not None:
            site, current = current.called, current.caller
        return site

    def use(self, oid: ObjectId, name: str, state: State, frame: Frame, node: ir.Node) -> Use:
        """Where a forward of a model, which is called `name` there, is used.

        A method that loops or says that it evaluates is a user of the model itself.
        """
        site, user, loops = self.run.site(frame, node), frame, len(self.run.loops)
        while (
            user.called is not None
            and user.caller is not None
            and isinstance(user.receiver, Ref)
            and user.loops == loops
            and not is_evaluation_name(user.name)
            and self._holds(user.receiver.oid, oid, state)
        ):
            oid = user.receiver.oid
            name = self.run.names.name_of(oid, state)
            site, loops, user = user.called, user.loops, user.caller
        return Use(site, user.name, name)

    def _holds(self, whole: ObjectId, part: ObjectId, state: State) -> bool:
        return state.module(whole) is not None and part in self.run.models.reach(whole, state)
