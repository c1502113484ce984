"""The 42 faults of a single process, by name, each as a script that runs it under a watch."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from tests.runtime.tiny import (
    adamw,
    convnet,
    evaluate,
    image_step,
    images,
    llama,
    loop,
    lora,
    loss_of,
    one_step,
    tokens,
)
from trainlint.runtime import watch


class Fault(NamedTuple):
    """A script and the code that names its cause."""

    code: str
    run: Callable[[Callable[..., Any]], Any]
    severity: str = ""
    select: str | None = None


FAULTS: dict[str, Fault] = {}


def fault(name: str, code: str, **more: Any) -> Callable[[Any], Any]:
    def register(run: Any) -> Any:
        FAULTS[name] = Fault(code, run, **more)
        return run

    return register


@fault("f01 model left in eval", "TL101")
def _(watch: Any) -> Any:
    model = lora()
    model.eval()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f01b eval from 2nd epoch", "TL101")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for _epoch in range(3):
            loop(model, optimizer, 2)
            model.eval()
            with torch.no_grad():
                loss_of(model)
    return run


@fault("f02 one decoder layer eval", "TL107")
def _(watch: Any) -> Any:
    model = lora()
    model.base_model.model.model.layers[1].eval()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f03 all nn.Dropout eval", "TL107")
def _(watch: Any) -> Any:
    model = lora()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f04 base eval, adapters train", "TL107")
def _(watch: Any) -> Any:
    model = lora(llama().eval())
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f05 adapter frozen", "TL404")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    for p in model.parameters():
        p.requires_grad = False
    with watch(model, optimizer) as run:
        try:
            loop(model, optimizer)
        except RuntimeError as error:
            assert "does not require grad" in str(error)  # noqa: PT017 - torch may raise
    return run


@fault("f05b same, input grads on", "TL404")
def _(watch: Any) -> Any:
    model = lora()
    model.enable_input_require_grads()
    optimizer = adamw(model)
    for p in model.parameters():
        p.requires_grad = False
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f06 half of lora_A frozen", "TL414", severity="error")
def _(watch: Any) -> Any:
    model = lora()
    named = [p for n, p in model.named_parameters() if "lora_A" in n]
    for p in named[: len(named) // 2]:
        p.requires_grad = False
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f07 one layer disabled", "TL413")
def _(watch: Any) -> Any:
    model = lora()
    model.base_model.model.model.layers[0].self_attn.q_proj._disable_adapters = True
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f08 one layer other adapter", "TL413")
def _(watch: Any) -> Any:
    from peft import LoraConfig

    model = lora()
    model.add_adapter("other", LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    model.base_model.model.model.layers[0].self_attn.q_proj.set_adapter("other")
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f09 merged", "TL406")
def _(watch: Any) -> Any:
    model = lora()
    model.merge_adapter()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        try:
            loop(model, optimizer)
        except RuntimeError as error:
            assert "does not require grad" in str(error)  # noqa: PT017 - torch may raise
    return run


@fault("f09b merged, input grads on", "TL406")
def _(watch: Any) -> Any:
    model = lora()
    model.enable_input_require_grads()
    model.merge_adapter()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f10 optimizer before get_peft_model", "TL303")
def _(watch: Any) -> Any:
    base = llama()
    optimizer = torch.optim.AdamW(base.parameters(), lr=1e-2)
    model = lora(base)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f11 optimizer misses 2nd adapter", "TL303")
def _(watch: Any) -> Any:
    from peft import LoraConfig

    model = lora()
    optimizer = adamw(model)
    model.add_adapter("second", LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    model.base_model.set_adapter(["default", "second"])
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f12 optimizer all frozen", "TL301")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if not p.requires_grad], lr=1e-2)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f13 optimizer some frozen", "TL302", severity="info")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f14 frozen after optimizer", "TL305")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer, 2)
        optimizer.zero_grad()
        loss_of(model).backward()
        for n, p in model.named_parameters():
            if "lora_A" in n:
                p.requires_grad = False
        optimizer.step()
        loop(model, optimizer, 2)
    return run


@fault("f15 no zero_grad", "TL205")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(4):
            loss_of(model, step).backward()
            optimizer.step()
    return run


@fault("f16 zero_grad wipes", "TL206")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(4):
            loss_of(model, step).backward()
            optimizer.zero_grad()
            optimizer.step()
    return run


@fault("f17 eval with grad", "TL201")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer, 2)
        model.eval()
        for seed in range(2):
            loss_of(model, seed)
        model.train()
        loop(model, optimizer, 2)
    return run


@fault("f18 eval in train mode", "TL102")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer, 2)
        with torch.no_grad():
            loss_of(model)
    return run


@fault("f19 no_grad around forward", "TL203")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        with torch.no_grad():
            loss = loss_of(model)
        try:
            loss.backward()
        except RuntimeError as error:
            assert "does not require grad" in str(error)  # noqa: PT017 - torch may raise
    return run


@fault("f19c gradients turned off by an evaluation, for good", "TL204")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer, 2)
        model.eval()
        torch.set_grad_enabled(False)
        try:
            loss_of(model)
            model.train()
            one_step(model, optimizer)
        except RuntimeError as error:
            assert "does not require grad" in str(error)  # noqa: PT017 - torch may raise
        finally:
            torch.set_grad_enabled(True)
    return run


@fault("f18b evaluated with neither eval() nor no_grad()", "TL102")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)

    def validate() -> None:
        total = 0.0
        for seed in range(3):
            batch = tokens(seed)
            total += model(input_ids=batch, labels=batch).loss.item()

    with watch(model, optimizer) as run:
        loop(model, optimizer, 2)
        validate()
        loop(model, optimizer, 2)
    return run


class NoGradBackbone(nn.Module):
    """The backbone runs under no_grad, though it is meant to train."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = lora()
        self.head = nn.Linear(64, 3)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            hidden = self.backbone(input_ids=input_ids).logits.mean(1)
        out: torch.Tensor = self.head(hidden)
        return out


@fault("f19b no_grad on backbone, head trains", "TL203")
def _(watch: Any) -> Any:
    model = NoGradBackbone()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(4):
            optimizer.zero_grad()
            model(tokens(step)).square().mean().backward()
            optimizer.step()
    return run


class Checkpointed(nn.Module):
    """A reentrant checkpoint over the adapters; a head of its own trains."""

    def __init__(self) -> None:
        super().__init__()
        from peft import LoraConfig, get_peft_model

        body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16))
        self.body = get_peft_model(body, LoraConfig(target_modules=["0", "2"], r=2))
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        from torch.utils.checkpoint import checkpoint

        out: torch.Tensor = self.head(checkpoint(self.body, x, use_reentrant=True))
        return out


@fault("f20 reentrant ckpt, no input grad", "TL412")
def _(watch: Any) -> Any:
    model = Checkpointed()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(3):
            image_step(model, optimizer, step)
    return run


@fault("f21 NaN gradient", "TL702")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer, 5)
        optimizer.zero_grad()
        loss = loss_of(model)
        (loss * float("nan")).backward()
        optimizer.step()
    return run


@fault("f22 one BN in train during eval", "TL102")
def _(watch: Any) -> Any:
    model = convnet()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(2):
            image_step(model, optimizer, step)
        model.eval()
        model.backbone[1].train()
        with torch.no_grad():
            model(images()[0])
    return run


@fault("f22b frozen BN put back in train", "TL105")
def _(watch: Any) -> Any:
    model = convnet()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.requires_grad_(False)
            module.eval()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(2):
            model.train()
            image_step(model, optimizer, step)
    return run


@fault("f23 tied weights untied", "TL418")
def _(watch: Any) -> Any:
    model = lora(llama(tie_word_embeddings=True), modules_to_save=["lm_head"])
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f24 lr 0", "TL703")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model, lr=0.0)
    with watch(model, optimizer) as run:
        loop(model, optimizer, 6)
    return run


@fault("f25 clip after step", "TL210")
def _(watch: Any) -> Any:
    from torch.nn.utils import clip_grad_norm_

    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(3):
            one_step(model, optimizer, step)
            clip_grad_norm_(model.parameters(), 1.0)
    return run


@fault("f26 scheduler before optimizer", "TL208")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    with watch(model, optimizer) as run:
        for step in range(3):
            scheduler.step()
            one_step(model, optimizer, step)
    return run


@fault("f27 loss rebuilt from item()", "TL212")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(3):
            optimizer.zero_grad()
            torch.tensor(loss_of(model, step).item(), requires_grad=True).backward()
            optimizer.step()
    return run


@fault("f28 graph retained", "TL213", select="ALL")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    kept = []
    with watch(model, optimizer) as run:
        for step in range(10):
            optimizer.zero_grad()
            loss = loss_of(model, step)
            loss.backward()
            optimizer.step()
            kept.append(loss)
    return run


@fault("f29 load_adapter flips eval mid-run", "TL408")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with watch(model, optimizer) as run:
            loop(model, optimizer, 2)
            model.load_adapter(folder, "second")
            loop(model, optimizer, 2)
    return run


@fault("f30 nested get_peft_model", "TL410")
def _(watch: Any) -> Any:
    model = lora(lora())
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f31 base weight unfrozen", "TL416")
def _(watch: Any) -> Any:
    model = lora()
    model.base_model.model.model.layers[0].mlp.up_proj.weight.requires_grad = True
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f32 wrong adapter in optimizer", "TL303")
def _(watch: Any) -> Any:
    from peft import LoraConfig

    model = lora()
    model.add_adapter("second", LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    optimizer = torch.optim.AdamW(
        [p for n, p in model.named_parameters() if "second" in n], lr=1e-2
    )
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f33 stale optimizer", "TL304")
def _(watch: Any) -> Any:
    first = lora()
    optimizer = adamw(first)
    model = copy.deepcopy(first)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


@fault("f34 step before backward", "TL207")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(4):
            optimizer.zero_grad()
            loss = loss_of(model, step)
            optimizer.step()
            loss.backward()
    return run


@fault("f35 clip without unscale_", "TL211")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    scaler = torch.amp.GradScaler("cpu")
    with watch(model, optimizer) as run:
        for step in range(3):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, step)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
    return run


@fault("f36 backward, never a step", "TL207")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(4):
            optimizer.zero_grad()
            loss_of(model, step).backward()
    return run


@fault("f37 LoRA scaling 0", "TL417")
def _(watch: Any) -> Any:
    model = lora()
    for module in model.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling["default"] = 0.0
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
    return run


__all__ = ["FAULTS", "Fault", "evaluate", "watch"]
