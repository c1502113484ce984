"""The healthy set-ups that alarmed peers, by name, each as a script under a watch."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from typing import Any

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

HEALTHY: dict[str, Callable[[Callable[..., Any]], Any]] = {}
STEPS = 6


def healthy(name: str) -> Callable[[Any], Any]:
    def register(run: Any) -> Any:
        HEALTHY[name] = run
        return run

    return register


def trained(
    watch: Any, model: Any, optimizer: Any = None, steps: int = STEPS, **options: Any
) -> Any:
    """Train with an evaluation in between."""
    optimizer = adamw(model) if optimizer is None else optimizer
    with watch(model, optimizer, **options) as run:
        loop(model, optimizer, steps // 2)
        evaluate(model)
        loop(model, optimizer, steps // 2)
    return run


@healthy("plain")
def _(watch: Any) -> Any:
    return trained(watch, lora())


@healthy("no optimizer given")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model) as run:
        loop(model, optimizer)
    return run


@healthy("eval base then train")
def _(watch: Any) -> Any:
    model = lora(llama().eval())
    model.train()
    return trained(watch, model)


@healthy("accum")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(12):
            (loss_of(model, step) / 3).backward()
            if step % 3 == 2:
                optimizer.step()
                optimizer.zero_grad()
    return run


@healthy("gc input grads")
def _(watch: Any) -> Any:
    model = lora()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    return trained(watch, model)


@healthy("two adapters one active")
def _(watch: Any) -> Any:
    from peft import LoraConfig

    model = lora()
    model.add_adapter("second", LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    return trained(watch, model)


@healthy("modules to save")
def _(watch: Any) -> Any:
    return trained(watch, lora(modules_to_save=["lm_head"]))


@healthy("frozen bn backbone")
def _(watch: Any) -> Any:
    model = convnet()
    model.backbone.requires_grad_(False)
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for _epoch in range(3):
            model.train()
            model.backbone.eval()
            for step in range(2):
                image_step(model, optimizer, step)
            model.eval()
            with torch.no_grad():
                model(images()[0])
    return run


@healthy("bn statistics kept, affine trains")
def _(watch: Any) -> Any:
    model = convnet()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for _epoch in range(3):
            model.train()
            for module in model.modules():
                if isinstance(module, nn.BatchNorm1d):
                    module.eval()
            image_step(model, optimizer)
    return run


@healthy("gc nonreentrant")
def _(watch: Any) -> Any:
    model = lora()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return trained(watch, model)


@healthy("scaler skip")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    with watch(model, optimizer) as run:
        for step in range(STEPS):
            optimizer.zero_grad()
            factor = float("inf") if step in (0, 3) else 1.0
            scaler.scale(loss_of(model, step) * factor).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
    return run


@healthy("scaler skip, fused")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    with watch(model, optimizer) as run:
        for step in range(STEPS):
            optimizer.zero_grad()
            factor = float("inf") if step in (0, 3) else 1.0
            scaler.scale(loss_of(model, step) * factor).backward()
            scaler.step(optimizer)
            scaler.update()
    return run


@healthy("mts second adapter")
def _(watch: Any) -> Any:
    from peft import LoraConfig

    model = lora(modules_to_save=["lm_head"])
    model.add_adapter("second", LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    model.set_adapter("second")
    return trained(watch, model)


@healthy("wd0 sgd")
def _(watch: Any) -> Any:
    model = lora()
    return trained(
        watch, model, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    )


@healthy("warmup from 0")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 10))
    with watch(model, optimizer) as run:
        for step in range(STEPS):
            one_step(model, optimizer, step)
            scheduler.step()
    return run


@healthy("warmup by epochs from 0")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 3))
    with watch(model, optimizer) as run:
        for _epoch in range(2):
            loop(model, optimizer, 5)
            scheduler.step()
    return run


@healthy("dora")
def _(watch: Any) -> Any:
    return trained(watch, lora(use_dora=True))


@healthy("mica")
def _(watch: Any) -> Any:
    return trained(watch, lora(init_lora_weights="mica"))


@healthy("lorafa")
def _(watch: Any) -> Any:
    from peft.optimizers import create_lorafa_optimizer

    model = lora()
    return trained(watch, model, create_lorafa_optimizer(model=model, r=4, lora_alpha=8, lr=1e-2))


@healthy("lora+")
def _(watch: Any) -> Any:
    from peft.optimizers import create_loraplus_optimizer

    model = lora()
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-2, loraplus_lr_ratio=16)
    return trained(watch, model, optimizer)


@healthy("closure")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(STEPS):

            def closure(step: int = step) -> torch.Tensor:
                optimizer.zero_grad()
                loss = loss_of(model, step)
                loss.backward()
                return loss

            optimizer.step(closure)
    return run


@healthy("lbfgs")
def _(watch: Any) -> Any:
    model = lora(lora_dropout=0.0)
    optimizer = torch.optim.LBFGS([p for p in model.parameters() if p.requires_grad], max_iter=3)
    with watch(model, optimizer) as run:
        for step in range(4):

            def closure(step: int = step) -> torch.Tensor:
                optimizer.zero_grad()
                loss = loss_of(model, step)
                loss.backward()
                return loss

            optimizer.step(closure)
    return run


@healthy("trainable tokens")
def _(watch: Any) -> Any:
    return trained(watch, lora(trainable_token_indices=[1, 2, 3]))


@healthy("bias all")
def _(watch: Any) -> Any:
    return trained(watch, lora(llama(attention_bias=True), bias="all"))


@healthy("bias lora_only")
def _(watch: Any) -> Any:
    return trained(watch, lora(llama(attention_bias=True), bias="lora_only"))


@healthy("dropout0")
def _(watch: Any) -> Any:
    model = lora(llama(attention_dropout=0.0), lora_dropout=0.0)
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        loop(model, optimizer)
        with torch.no_grad():
            loss_of(model)  # in train mode, where nothing acts on it
        loop(model, optimizer)
    return run


@healthy("two adapters both")
def _(watch: Any) -> Any:
    from peft import LoraConfig

    model = lora()
    model.add_adapter("second", LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    model.base_model.set_adapter(["default", "second"])
    return trained(watch, model)


@healthy("two optimizers")
def _(watch: Any) -> Any:
    model = lora()
    a = torch.optim.SGD([p for n, p in model.named_parameters() if "lora_A" in n], lr=0.1)
    b = torch.optim.AdamW([p for n, p in model.named_parameters() if "lora_B" in n], lr=0.01)
    with watch(model) as run:
        for step in range(STEPS):
            a.zero_grad()
            b.zero_grad()
            loss_of(model, step).backward()
            a.step()
            b.step()
    return run


@healthy("two optimizers, the first given")
def _(watch: Any) -> Any:
    model = lora()
    a = torch.optim.SGD([p for n, p in model.named_parameters() if "lora_A" in n], lr=0.1)
    b = torch.optim.AdamW([p for n, p in model.named_parameters() if "lora_B" in n], lr=0.01)
    with watch(model, a) as run:
        for step in range(STEPS):
            a.zero_grad()
            b.zero_grad()
            loss_of(model, step).backward()
            a.step()
            b.step()
    return run


@healthy("vera")
def _(watch: Any) -> Any:
    from peft import VeraConfig, get_peft_model

    return trained(watch, get_peft_model(llama(), VeraConfig(r=4, target_modules=["q_proj"])))


@healthy("prompt tuning")
def _(watch: Any) -> Any:
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    return trained(watch, get_peft_model(llama(), config))


@healthy("adalora")
def _(watch: Any) -> Any:
    from peft import AdaLoraConfig, get_peft_model

    config = AdaLoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj"], total_step=20, tinit=2, tfinal=4
    )
    model = get_peft_model(llama(), config)
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(8):
            one_step(model, optimizer, step)
            model.base_model.update_and_allocate(step)
    return run


@healthy("full finetune no peft")
def _(watch: Any) -> Any:
    return trained(watch, llama())


@healthy("ia3 disable ref model")
def _(watch: Any) -> Any:
    from peft import IA3Config, get_peft_model

    config = IA3Config(
        task_type="CAUSAL_LM", target_modules=["k_proj", "v_proj"], feedforward_modules=[]
    )
    model = get_peft_model(llama(), config)
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(STEPS):
            optimizer.zero_grad()
            with torch.no_grad(), model.disable_adapter():
                reference = loss_of(model, step)
            (loss_of(model, step) - reference).square().backward()
            optimizer.step()
    return run


@healthy("dpo reference pass under disable_adapter, in train mode")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(STEPS):
            optimizer.zero_grad()
            loss = loss_of(model, step)
            with torch.no_grad(), model.disable_adapter():
                reference = loss_of(model, step)
            (loss - reference).backward()
            optimizer.step()
    return run


@healthy("generate between steps")
def _(watch: Any) -> Any:
    model = llama(use_cache=True)
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(3):
            one_step(model, optimizer, step)
            model.generate(input_ids=tokens(), max_new_tokens=2, do_sample=False, pad_token_id=0)
    return run


class Gan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.1), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


@healthy("gan, both watched")
def _(watch: Any) -> Any:
    torch.manual_seed(0)
    g, d = Gan(), Gan()
    og, od = adamw(g), adamw(d)
    with watch(g) as run, watch(d) as other:
        for step in range(STEPS):
            x = images(step)[0]
            od.zero_grad()
            (d(g(x).detach()).mean() - d(x).mean()).backward()
            od.step()
            og.zero_grad()
            (-d(g(x)).mean()).backward()
            og.step()
    run.report.violations.extend(other.report.violations)
    return run


@healthy("frozen teacher")
def _(watch: Any) -> Any:
    student = convnet()
    teacher = copy.deepcopy(student).eval().requires_grad_(False)
    optimizer = adamw(student)
    with watch(student, optimizer) as run, watch(teacher) as other:
        for step in range(STEPS):
            x, _ = images(step)
            with torch.no_grad():
                target = teacher(x)
            optimizer.zero_grad()
            (student(x) - target).square().mean().backward()
            optimizer.step()
    run.report.violations.extend(other.report.violations)
    return run


@healthy("swa update_bn")
def _(watch: Any) -> Any:
    from torch.optim.swa_utils import update_bn

    model = convnet()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(3):
            image_step(model, optimizer, step)
        update_bn([images(s)[0] for s in range(2)], model)
        image_step(model, optimizer)
    return run


@healthy("mc dropout, allowed")
def _(watch: Any) -> Any:
    model = convnet()
    optimizer = adamw(model)
    with watch(model, optimizer, allow_train=["backbone.3"]) as run:
        for step in range(3):
            image_step(model, optimizer, step)
        model.eval()
        model.backbone[3].train()
        with torch.no_grad():
            model(images()[0])
    return run


@healthy("optimizer in backward")
def _(watch: Any) -> Any:
    model = lora()
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters() if p.requires_grad}

    def hook(p: Any) -> None:
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in optimizers:
        p.register_post_accumulate_grad_hook(hook)
    with watch(model) as run:
        for step in range(STEPS):
            loss_of(model, step).backward()
    return run


@healthy("flat parameters (ZeRO)")
def _(watch: Any) -> Any:
    model = convnet()
    flat = nn.Parameter(torch.cat([p.detach().flatten() for p in model.parameters()]))
    optimizer = torch.optim.AdamW([flat], lr=1e-2)
    with watch(model, optimizer) as run:
        for step in range(STEPS):
            x, y = images(step)
            nn.functional.cross_entropy(model(x), y).backward()
            flat.grad = torch.cat([p.grad.flatten() for p in model.parameters()])
            optimizer.step()
            optimizer.zero_grad()
            model.zero_grad()
            with torch.no_grad():
                offset = 0
                for p in model.parameters():
                    p.copy_(flat[offset : offset + p.numel()].view_as(p))
                    offset += p.numel()
    return run


@healthy("save, load, merge at the end")
def _(watch: Any) -> Any:
    from peft import PeftModel

    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run, tempfile.TemporaryDirectory() as folder:
        loop(model, optimizer)
        model.save_pretrained(folder)
        again = PeftModel.from_pretrained(llama(), folder)
        with torch.no_grad():
            loss_of(again)
        model.eval()
        model.merge_adapter()
        with torch.no_grad():
            loss_of(model)
        model.unmerge_adapter()
    return run


@healthy("set_to_none=False")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(STEPS):
            loss_of(model, step).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
    return run


@healthy("gradients cleared by hand")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(STEPS):
            loss_of(model, step).backward()
            optimizer.step()
            for p in model.parameters():
                p.grad = None
    return run


@healthy("unused pooler")
def _(watch: Any) -> Any:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Linear(8, 3)
            self.unused = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.used(x)
            return out

    model = Model()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(STEPS):
            image_step(model, optimizer, step)
    return run


@healthy("switching adapters in one optimizer")
def _(watch: Any) -> Any:
    from peft import LoraConfig

    model = lora()
    model.add_adapter("second", LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    optimizer = torch.optim.AdamW([p for n, p in model.named_parameters() if "lora_" in n], lr=1e-2)
    with watch(model, optimizer) as run:
        for round_ in range(4):
            model.set_adapter(("default", "second")[round_ % 2])
            loop(model, optimizer, 2)
    return run


@healthy("nan loss skipped")
def _(watch: Any) -> Any:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(STEPS):
            optimizer.zero_grad()
            loss = loss_of(model, step)
            if step == 2:
                continue
            loss.backward()
            optimizer.step()
    return run
