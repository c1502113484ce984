"""What names tell where nothing else does, and how the user calls the objects of a state."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trainlint.flow import ir
from trainlint.flow.state import (
    State,
)
from trainlint.flow.values import (
    Func,
    ObjectId,
    Ref,
)
from trainlint.flow.walk import nodes_of

if TYPE_CHECKING:
    from trainlint.flow.interpret import Interpreter


MODEL_NAME = re.compile(
    r"(?:^|_|\.)(model|net|network|encoder|decoder|backbone|generator|discriminator|critic|actor"
    r"|policy|student|teacher|classifier|head|module|unet|vae|ddp|ema|transformer|resnet|vgg|bert"
    r"|gpt|llm|mlp|cnn|rnn|lstm|gen|disc|netG|netD|G|D|llama|wrapper)(?:$|_|\d|\.|s$)",
    re.IGNORECASE,
)
"""A variable, attribute or parameter that holds a network, as people write it."""

EACH = "$each"
"""The attribute that stands for any part of a module, as a loop over `modules()` meets them."""

_NAMELESS = "the model"
_EVALUATION_PARTS = frozenset(
    "eval evaluate evaluation val valid validate validation test testing infer inference predict"
    " prediction sample sampling generate score dev".split()
)
_TRAINING_PARTS = frozenset(("train", "training", "fit"))


def is_training_name(name: str) -> bool:
    """A function that says that it trains."""
    return not _TRAINING_PARTS.isdisjoint(_words(name))


def is_evaluation_name(name: str) -> bool:
    """A function or a loader that says that it evaluates, and not that it trains."""
    return not is_training_name(name) and any(
        w in _EVALUATION_PARTS or w.removesuffix("loader") in _EVALUATION_PARTS
        for w in _words(name)
    )


def steps_itself(func: Func | None) -> bool:
    """A function that runs backward and steps, `linear_eval` as it may be called."""
    return func is not None and {"backward", "step"} <= {
        call.func.attr
        for call in nodes_of(func.function)
        if isinstance(call, ir.Call) and isinstance(call.func, ir.Attribute)
    }


def spoken(name: str) -> str:
    """A part's path in a message."""
    return name.replace(EACH, "(its layers)")


def _words(name: str) -> list[str]:
    return name.lower().replace(".", "_").replace("(", "_").replace(")", "_").split("_")


class Names:
    """How the user calls the objects of a state."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run = interpreter
        self.given: dict[ObjectId, str] = {}

    def name_of(self, oid: ObjectId, state: State) -> str:
        """How the user calls an object."""
        known = self.given.get(oid)
        if known is not None:
            return known
        for (_, name), value in state.vars.items():
            if value == Ref(oid) and not name.startswith("$"):
                return name
        if isinstance(oid, tuple) and len(oid) == 3 and oid[0] == "attr":
            whole = self.name_of(oid[1], state)
            held = self.variable_of(oid, state) if whole == _NAMELESS else ""
            return held or spoken(f"{whole}.{oid[2]}")
        for (owner, name), value in state.attrs.items():
            if value == Ref(oid):
                return f"self.{name}" if owner != oid else name
        if isinstance(oid, tuple) and oid[:1] == ("param",):
            return str(oid[-1])
        return _NAMELESS

    def variable_of(self, oid: ObjectId, state: State) -> str:
        """The variable or attribute that holds an object, empty if none does."""
        for (_, name), value in state.vars.items():
            if value == Ref(oid) and not name.startswith("$"):
                return name
        for (_, name), value in state.attrs.items():
            if value == Ref(oid):
                return f"self.{name}"
        return ""
