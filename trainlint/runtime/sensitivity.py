"""Which modules behave differently in train and in eval mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import CodeType
from weakref import WeakKeyDictionary

from torch import nn

_DROPOUT = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
_RUNNING = nn.modules.batchnorm._NormBase  # BatchNorm*, SyncBatchNorm, InstanceNorm*, lazy ones
_READS: WeakKeyDictionary[type, bool] = WeakKeyDictionary()
"""Holds no class alive: users define theirs in functions and notebook cells, again and again."""
_NEVER: set[type] = set()
"""Classes of libraries already found to be insensitive, whatever their attributes."""
_KNOWN_PACKAGES = ("torch.", "transformers.", "peft.", "lightning.", "pytorch_lightning.")
_RATE_WORDS = ("drop", "jitter")
_RATE_CONFIG = ("drop",)


def names_in(code: CodeType) -> Iterator[str]:
    """All names that code, and the functions inside it, use as globals and attributes."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)


def _reads_flag(kind: type) -> bool:
    """Whether any method of the class (below nn.Module) mentions `training`."""
    known = _READS.get(kind)
    if known is None:
        known = False
        for base in kind.__mro__:
            if base is nn.Module or base is object:
                break
            for value in vars(base).values():
                code = getattr(getattr(value, "__func__", value), "__code__", None)
                if code is not None and "training" in names_in(code):
                    known = True
        _READS[kind] = known
    return known


def _rates(module: nn.Module) -> list[float]:
    """Numbers among the module's attributes that are probabilities of dropping something."""
    found = []
    for key, value in module.__dict__.items():
        if type(value) in (int, float) and any(word in key for word in _RATE_WORDS):
            found.append(float(value))
    return found


def config_rates(module: nn.Module) -> dict[str, float]:
    """Dropout rates of a model's `config` that are above 0.

    HF Llama with sdpa holds no nn.Dropout: the rate of its config goes straight into
    `scaled_dot_product_attention(dropout_p=...)`.
    """
    config = getattr(module, "config", None)
    values = getattr(config, "__dict__", None)
    if not isinstance(values, Mapping):
        return {}
    return {
        key: float(value)
        for key, value in values.items()
        if isinstance(value, (int, float))
        and not isinstance(value, bool)
        and value > 0
        and any(word in key for word in _RATE_CONFIG)
    }


def sensitive(module: nn.Module, *, config_drops: bool = False) -> bool:
    """Whether this very module (not its children) acts differently in the two modes.

    Classes of torch are known (FACTS 2a); other code counts if one of its methods reads
    `training`, in a library only when a rate above 0 is around to make it matter.
    """
    if type(module) in _NEVER:
        return False
    if isinstance(module, _DROPOUT):
        return bool(module.p > 0)
    if isinstance(module, _RUNNING):
        return not isinstance(module, nn.modules.instancenorm._InstanceNorm) or bool(
            module.track_running_stats
        )
    if isinstance(module, nn.RNNBase):
        return bool(module.dropout > 0 and module.num_layers > 1)
    if isinstance(module, nn.MultiheadAttention):
        return bool(module.dropout > 0)
    if isinstance(module, nn.RReLU):
        return bool(module.lower != module.upper)
    kind = type(module)
    source = kind.__module__
    if source.startswith("torch.nn.utils.parametrizations"):
        return kind.__name__ == "_SpectralNorm"
    if source.startswith("torch.") or not _reads_flag(kind):
        if source.startswith(_KNOWN_PACKAGES):
            _NEVER.add(kind)
        return False
    if source.startswith(_KNOWN_PACKAGES):
        if source.startswith("peft."):
            # peft's `DoraLinearLayer` caches its weight norm in eval mode and clears it in train
            return kind.__name__.startswith("Dora") or any(r > 0 for r in _rates(module))
        return any(rate > 0 for rate in _rates(module)) or (
            config_drops and any(word in _class_words(kind) for word in _RATE_WORDS)
        )
    return True


def _class_words(kind: type) -> str:
    """All names that the class's own methods use, in one string."""
    words: list[str] = []
    for base in kind.__mro__:
        if base is nn.Module or base is object:
            break
        for value in vars(base).values():
            code = getattr(getattr(value, "__func__", value), "__code__", None)
            if code is not None:
                words.extend(names_in(code))
    return " ".join(words)
