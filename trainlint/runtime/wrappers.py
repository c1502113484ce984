"""Through the wrappers around a model, and over all that is in it."""

from __future__ import annotations

from torch import nn

_WRAPPED_IN = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "FullyShardedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
    "DeepSpeedEngine": "module",
    "PipelineEngine": "module",
    "_FabricModule": "_forward_module",
    "FSDPWrapper": "module",
}


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DDP, FSDP1, `torch.compile`, Fabric or a DeepSpeed engine."""
    seen = 0
    while seen < 10:
        seen += 1
        for base in type(model).__mro__:
            attribute = _WRAPPED_IN.get(base.__name__)
            if attribute is not None:
                break
        else:
            return model
        inner = model._modules.get(attribute)
        if inner is None:
            return model
        model = inner
    return model


def walk(root: nn.Module) -> list[tuple[str, nn.Module]]:
    """Like `named_modules()`, some five times faster: no generator per level."""
    seen = {id(root)}
    result: list[tuple[str, nn.Module]] = []
    stack: list[tuple[str, nn.Module]] = [("", root)]
    while stack:
        name, module = stack.pop()
        result.append((name, module))
        children = module._modules
        if not children:
            continue
        prefix = f"{name}." if name else ""
        for key in reversed(children):
            child = children[key]
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                stack.append((prefix + key, child))
    return result
