"""Helpers that nobody here defines and whose name says that they only keep books.

A file alone often calls what stood in another: `save_checkpoint(model, optimizer, epoch)`,
`adjust_learning_rate(optimizer, epoch)`, `early_stopping(loss, model)`. Anything may happen in a
function that is not here, so what it gets is forgotten; but saving weights, counting them,
setting a learning rate, clipping gradients or averaging weights switches no mode, clears no
gradient and makes no step, and such calls stand in nearly every loop. A name that also speaks of
evaluating or drawing from the model (`save_samples`, `log_predictions`) says nothing of the kind.
"""

from __future__ import annotations

import re

from trainlint.core import late
from trainlint.flow import ir
from trainlint.flow.models import MADE
from trainlint.flow.values import ObjectId

_KEEPS = late.pattern(
    r"""(save|store|backup)(?=_|$)        # save_checkpoint, saver.save
    | (log|print|count|summary|summarize)(?=_|$)
    | (get_)?(n|num|number|parameter|param)s?_(of_)?(total_)?(trainable_)?(param|num)
    | (init|initialize|init_model|reset)_(weight|param)
    | (weights?|params?|kaiming|xavier)_init
    | clip_grad | gradient_?clip
    | ((adjust|set|update|get|change|decay|warmup|poly|cosine|step)_)*(learning_?rate|lr)(?=_|$)
    | (early_?)?stopp(er|ing) | early_?stop
    | (update_)?ema(?=_|$)
    | (soft|hard|polyak|momentum)_update | (update|sync)_(the_)?target
    | (is|has)_                           # is_parallel
    """,
    re.VERBOSE,
)
_DRAWS = late.pattern(
    r"sampl|imag|pic|fig|plot|grid|vis|result|output|pred|exampl|generat|demo|attention|embed"
)
_RUNS = late.pattern(
    rf"{_DRAWS.pattern}|test|eval|valid|train|infer|freez|mode(?!l)|score|metric|accura|loss"
)
_LOGGER = late.pattern(r"(^|_)(logger|writer|tracker|recorder)$")
_UNWRAPS = late.pattern(
    r"""(maybe_)?(de|un)_?(parallel|wrap)\w* | (remove|strip)_(ddp|dp|parallel|wrapper)\w*
    | get_(raw|bare|inner|core|unwrapped)_(model|module|net|network)
    """,
    re.VERBOSE,
)
_METERS = late.pattern(
    r"\w*meters?(_set|_dict)?|metric_logger|smoothed_value|(running|moving)_(average|mean)|averager"
)
"""What averages the numbers that it is told, also a loss that has its graph."""
_GENERAL = frozenset(("__call__", "step", "update", "check"))
_HUMP = late.pattern(r"(?<=[a-z0-9])(?=[A-Z])")


def keeps_books(function: ir.Expr) -> bool:
    """Whether the name of a function that is not here says that it changes no training state."""
    *owners, name = ir.spelled(function).split(".")
    owner = owners[-1] if owners else ""
    if name in _GENERAL and _says_so(owner):
        return True
    # `logger.log_validation(loss, model)` logs what an evaluation gave; a function might run one.
    runs = _DRAWS if _LOGGER.search(_words(owner)) else _RUNS
    return _says_so(name, runs)


def unwraps(function: ir.Expr) -> bool:
    """Whether its name says that it gives back the model that it gets: `de_parallel(model)`."""
    return _UNWRAPS.fullmatch(_words(ir.spelled(function).rsplit(".", 1)[-1])) is not None


def made_to(oid: ObjectId) -> bool:
    """Whether an object, or the one whose method this is, is of a class that only keeps books."""
    if isinstance(oid, tuple) and len(oid) == 3 and oid[0] == "attr":
        oid = oid[1]
    kind = oid[0] if isinstance(oid, tuple) and oid else None
    if not isinstance(kind, str) or not kind.startswith(MADE):
        return False
    name = kind.removeprefix(MADE)
    return _METERS.fullmatch(_words(name)) is not None or _says_so(name)


def _words(name: str) -> str:
    return _HUMP.sub("_", name).lower().strip("_")


def _says_so(name: str, runs: re.Pattern[str] = _RUNS) -> bool:
    words = _words(name)
    return _KEEPS.match(words) is not None and runs.search(words) is None
