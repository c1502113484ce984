"""A watch changes nothing: not a bit of the results, and nothing is left behind."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
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
)
from trainlint.runtime import TrainingStateError, watch


def _plain(model: Any, optimizer: Any) -> None:
    loop(model, optimizer)
    evaluate(model)
    loop(model, optimizer)


def _amp(model: Any, optimizer: Any) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=128.0)
    for step in range(5):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, step)
        scaler.scale(loss * (float("inf") if step == 2 else 1.0)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()


def _accumulate(model: Any, optimizer: Any) -> None:
    for step in range(9):
        (loss_of(model, step) / 3).backward()
        if step % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()


def _checkpoint(model: Any, optimizer: Any) -> None:
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    loop(model, optimizer)


def _checkpoint_reentrant(model: Any, optimizer: Any) -> None:
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    loop(model, optimizer)


def _images(model: Any, optimizer: Any) -> None:
    for step in range(4):
        image_step(model, optimizer, step)
    model.eval()
    with torch.no_grad():
        model(images(9)[0])
    model.train()
    image_step(model, optimizer, 5)


def _images_amp(model: Any, optimizer: Any) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=128.0)
    for step in range(5):
        x, y = images(step)
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss * (float("inf") if step == 2 else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()


def _images_accumulate(model: Any, optimizer: Any) -> None:
    for step in range(9):
        x, y = images(step)
        (nn.functional.cross_entropy(model(x), y) / 3).backward()
        if step % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()


def _images_checkpoint(model: Any, optimizer: Any) -> None:
    from torch.utils.checkpoint import checkpoint

    for step in range(4):
        x, y = images(step)
        optimizer.zero_grad()
        hidden = checkpoint(model.backbone, x, use_reentrant=False)
        nn.functional.cross_entropy(model.head(hidden), y).backward()
        optimizer.step()


def _compiled(train: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def run(model: Any, optimizer: Any) -> None:
        import torch._dynamo

        torch._dynamo.reset()
        train(torch.compile(model, backend="aot_eager"), optimizer)

    return run


CASES: dict[str, tuple[Callable[[], Any], Callable[[Any, Any], None]]] = {
    "lora": (lora, _plain),
    "lora, amp with a skipped step": (lora, _amp),
    "lora, accumulation": (lora, _accumulate),
    "lora, checkpointing": (lora, _checkpoint),
    "lora, reentrant checkpointing": (lora, _checkpoint_reentrant),
    "lora, compiled": (lora, _compiled(_plain)),
    "batchnorm": (convnet, _images),
    "batchnorm, amp with a skipped step": (convnet, _images_amp),
    "batchnorm, accumulation": (convnet, _images_accumulate),
    "batchnorm, checkpointing": (convnet, _images_checkpoint),
    "batchnorm, compiled": (convnet, _compiled(_images)),
}


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    found = {k: v.clone() for k, v in model.state_dict().items()}
    found.update(
        {f"{n}.grad": p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    )
    found["random"] = torch.get_rng_state()
    return found


_SLOW = ("lora, compiled",)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in _SLOW else n for n in CASES]
)
def test_results_are_bit_identical_with_and_without_a_watch(name: str) -> None:
    build, train = CASES[name]

    def run(watched: bool) -> dict[str, torch.Tensor]:
        model = build()
        optimizer = adamw(model)
        torch.manual_seed(7)
        if watched:
            with watch(model, optimizer) as found:
                train(model, optimizer)
            assert found.report.ok
            assert found.report.steps > 2
        else:
            train(model, optimizer)
        return _state(model)

    bare, watched = run(False), run(True)
    assert bare.keys() == watched.keys()
    assert all(torch.equal(bare[key], watched[key]) for key in bare)


def _patched() -> list[Any]:
    from peft import PeftModel
    from torch.nn.utils import clip_grad
    from torch.optim import optimizer as optimizers
    from torch.utils import checkpoint

    return [
        nn.Module.train,
        nn.Module.zero_grad,
        torch.optim.Optimizer.zero_grad,
        torch.autograd.backward,
        clip_grad._clip_grads_with_norm_,
        clip_grad._group_tensors_by_device_and_dtype,
        torch.amp.GradScaler.scale,
        torch.amp.GradScaler.step,
        torch.amp.GradScaler.unscale_,
        torch.optim.lr_scheduler.LRScheduler.step,
        checkpoint.check_backward_validity,
        PeftModel.disable_adapter,
        nn.functional.dropout,
        nn.functional.scaled_dot_product_attention,
        list(optimizers._global_optimizer_pre_hooks),
        list(optimizers._global_optimizer_post_hooks),
    ]


def _hooks(model: nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
        for m in model.modules()
    )


def test_no_hook_and_no_patch_is_left() -> None:
    model = lora()
    optimizer = adamw(model)
    before, hooks = _patched(), _hooks(model)
    with watch(model, optimizer):
        one_step(model, optimizer)
        assert _patched() != before
    assert _patched() == before
    assert _hooks(model) == hooks


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_no_hook_is_left_after_an_exception(error: type[BaseException]) -> None:
    model = lora()
    optimizer = adamw(model)
    before, hooks = _patched(), _hooks(model)
    with pytest.raises(error), watch(model, optimizer):  # noqa: PT012
        one_step(model, optimizer)
        raise error
    assert _patched() == before
    assert _hooks(model) == hooks


def test_no_hook_is_left_after_a_violation_or_an_exception_inside_forward() -> None:
    model = lora()
    model.eval()
    optimizer = adamw(model)
    before, hooks = _patched(), _hooks(model)
    with pytest.raises(TrainingStateError), watch(model, optimizer):
        one_step(model, optimizer)
    with pytest.raises(ValueError, match="input_ids"), watch(model, optimizer):
        model(nonsense=1)
    assert _patched() == before
    assert _hooks(model) == hooks


def test_a_forward_that_raises_does_not_confuse_the_next() -> None:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        with pytest.raises(ValueError, match="input_ids"):
            model(nonsense=1)
        loop(model, optimizer)
        model.eval()
        with pytest.raises(TrainingStateError) as caught:
            one_step(model, optimizer)
        model.train()
    assert caught.value.violations[0].code == "TL101"
    assert run.report.steps == 4


class Interrupted(nn.Module):
    """A model in whose forward the user presses Ctrl-C once."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.pressed = convnet(), False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pressed:
            self.pressed = False
            raise KeyboardInterrupt
        out: torch.Tensor = self.net(x)
        return out


@pytest.mark.parametrize("evaluating", [False, True])
def test_an_interrupt_inside_forward_hides_nothing_that_follows(evaluating: bool) -> None:
    """Torch calls no hook for it, not even those registered with `always_call`."""
    model = Interrupted()
    optimizer = adamw(model)
    dropout = nn.functional.dropout
    with watch(model, optimizer) as run:
        image_step(model, optimizer)
        model.train(not evaluating)
        model.pressed = True
        with pytest.raises(KeyboardInterrupt), torch.set_grad_enabled(not evaluating):
            model(images()[0])
        model.eval()
        with pytest.raises(TrainingStateError) as caught:
            image_step(model, optimizer)
    assert caught.value.violations[0].code == "TL101"
    assert run.report.steps == 1
    assert nn.functional.dropout is dropout


def test_nested_and_repeated_watches() -> None:
    model = lora()
    optimizer = adamw(model)
    before = _patched()
    with watch(model, optimizer) as outer:
        one_step(model, optimizer)
        with watch(model, optimizer) as inner:
            one_step(model, optimizer)
        assert _patched() != before
        one_step(model, optimizer)
    assert (outer.report.steps, inner.report.steps) == (3, 1)
    again = watch(model, optimizer)
    for _ in range(2):
        with again as run:
            one_step(model, optimizer)
        assert run.report.steps == 1
    assert _patched() == before


def test_a_watch_does_not_keep_its_model_alive() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    parameter = weakref.ref(model[0].weight)
    optimizer = adamw(model)
    reference = weakref.ref(model)
    gc.collect()
    gc.disable()
    try:
        with watch(model, optimizer) as run:
            model(torch.randn(4, 4)).sum().backward()
            optimizer.step()
            del model, optimizer
            assert reference() is None
            assert parameter() is None
    finally:
        gc.enable()
    assert run.report.ok


def test_a_watched_model_can_be_copied_pickled_and_saved() -> None:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        one_step(model, optimizer)
        keys = list(model.state_dict())
        twin = copy.deepcopy(model)
        again = pickle.loads(pickle.dumps(model))
        buffer = io.BytesIO()
        torch.save(model, buffer)
        for copied in (twin, again):
            copied.eval()
            loss_of(copied).backward()  # not watched: says nothing
        one_step(model, optimizer)
    assert run.report.ok
    assert keys == list(model.state_dict())
    for copied in (twin, again):
        loss_of(copied)
        hooks = list(copied._forward_pre_hooks.values())
        assert not any(type(h).__module__.startswith("trainlint") for h in hooks)


def test_threads_that_train_two_models_at_once_do_not_mix() -> None:
    results: dict[str, Any] = {}

    def work(name: str, broken: bool) -> None:
        model = convnet()
        optimizer = adamw(model)
        with watch(model, optimizer, on_violation=lambda violation: None) as run:
            for step in range(8):
                if broken:
                    model.eval()
                image_step(model, optimizer, step)
        results[name] = run.report

    threads = [
        threading.Thread(target=work, args=(name, name == "broken"))
        for name in ("healthy", "broken", "healthy too")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [v.code for v in results["broken"].violations] == ["TL101"]
    assert results["healthy"].ok
    assert results["healthy too"].ok
    assert {r.steps for r in results.values()} == {8}


def test_threads_that_evaluate_two_models_at_once_leave_no_stand_in() -> None:
    dropout = nn.functional.dropout
    meet = threading.Barrier(2)

    class Meeting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            meet.wait(20)  # both are inside, and end one after the other
            out: torch.Tensor = self.layer(x)
            return out

    def work() -> None:
        model = Meeting().eval()
        with watch(model) as run, torch.no_grad():
            model(images()[0])
        assert run.report.violations == []

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert nn.functional.dropout is dropout


def test_a_trainer_that_calls_train_before_each_step_is_not_observed_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from trainlint.runtime import observe
    from trainlint.runtime.watching import model_view

    looks = []
    monkeypatch.setattr(model_view, "observe", lambda model: looks.append(1) or observe(model))
    model = convnet()
    model.backbone.requires_grad_(False)
    optimizer = adamw(model)
    counts = []
    with watch(model, optimizer):
        for step in range(20):
            model.train()
            model.backbone.eval()
            image_step(model, optimizer, step)
            counts.append(len(looks))
    assert counts[4] == counts[-1]


@pytest.mark.slow
def test_a_lora_model_compiled_gets_no_graph_break_that_it_would_not_have() -> None:
    import torch._dynamo
    from torch._dynamo.utils import counters

    def breaks(watched: bool) -> tuple[dict[str, int], int]:
        torch._dynamo.reset()
        counters.clear()
        model = lora()
        optimizer = adamw(model)
        compiled = torch.compile(model, backend="aot_eager")
        if watched:
            with watch(compiled, optimizer) as run:
                _plain(compiled, optimizer)
            assert run.report.ok
        else:
            _plain(compiled, optimizer)
        return dict(counters["graph_break"]), counters["stats"]["unique_graphs"]

    assert breaks(True) == breaks(False)


@pytest.mark.parametrize("watched", ["wrapper", "inner"])
def test_compile_gets_no_graph_break_and_every_call_is_seen(watched: str) -> None:
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1), nn.Linear(8, 3))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    optimizer = adamw(model)
    target = compiled if watched == "wrapper" else model
    with watch(target, optimizer) as run:
        for step in range(4):
            image_step(compiled, optimizer, step)
        compiled.eval()
        with pytest.raises(TrainingStateError) as caught:
            image_step(compiled, optimizer)
    assert run.report.steps == 4
    assert caught.value.violations[0].code == "TL101"
    assert not torch._dynamo.utils.counters["graph_break"]


def test_a_scheduler_can_be_made_inside_a_watch() -> None:
    model = llama()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        for step in range(3):
            one_step(model, optimizer, step)
            scheduler.step()
    assert run.report.ok


def test_losses_handed_over_by_a_generator_arrive() -> None:
    model = convnet()
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        x, y = images()
        losses = (nn.functional.cross_entropy(model(x), y) for _ in range(2))
        torch.autograd.backward(losses)  # type: ignore[arg-type]
        optimizer.step()
    assert all(p.grad is not None for p in model.parameters())
    assert run.report.violations == []


def test_fsdp2_on_one_cpu_process() -> None:
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
        model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1), nn.Linear(8, 3))
        stale = adamw(model)
        fully_shard(model[0], mesh=mesh)
        fully_shard(model, mesh=mesh)
        optimizer = adamw(model)
        with watch(model, optimizer) as run:
            for step in range(5):
                image_step(model, optimizer, step)
        assert run.report.violations == []
        with pytest.raises(TrainingStateError) as caught, watch(model, stale):
            image_step(model, stale)
        assert caught.value.violations[0].code == "TL304"
    finally:
        dist.destroy_process_group()


def test_a_module_compiled_in_place_is_judged_by_what_arrives() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1), nn.Linear(8, 3))
    model.compile(backend="aot_eager", fullgraph=True)
    optimizer = adamw(model)
    with watch(model, optimizer) as run:
        for step in range(3):
            image_step(model, optimizer, step)
        model.eval()
        with pytest.raises(TrainingStateError) as caught:
            image_step(model, optimizer)
    assert run.report.steps == 3
    assert caught.value.violations[0].code == "TL101"


def test_no_value_is_read_where_that_would_wait_for_a_device() -> None:
    """Reading a value of a meta tensor raises: whatever a watch reads, it reads on the CPU."""
    with torch.device("meta"):
        model = lora(convnet(), task_type=None, target_modules=["head"])
    optimizer = adamw(model, foreach=True)
    x = torch.empty(8, 8, device="meta")
    y = torch.empty(8, dtype=torch.long, device="meta")
    with watch(model, optimizer) as run:
        for step in range(60):
            optimizer.zero_grad()
            for _ in range(2):
                (nn.functional.cross_entropy(model(x), y) / 2).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step % 20 == 5:
                model.eval()
                with torch.no_grad():
                    model(x)
                model.train()
    assert run.report.steps == 60
    assert run.report.ok
