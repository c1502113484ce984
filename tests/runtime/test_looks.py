"""`inspect` and `verify` on states, the report, and what wrong use is told."""

from __future__ import annotations

import gc
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.runtime.tiny import adamw, convnet, image_step, images, llama, loop, lora, one_step
from trainlint.runtime import (
    Expect,
    TrainingStateError,
    TrainingStateWarning,
    inspect,
    observe,
    verify,
    watch,
)


def codes(*args: Any, **options: Any) -> list[str]:
    return [v.code for v in inspect(*args, **options).violations]


def test_a_healthy_model_is_ok_in_both_phases() -> None:
    model = lora()
    assert verify(model, adamw(model)).ok
    model.eval()
    assert inspect(model, phase="eval").ok
    assert inspect(model).violations == []


def test_modes_are_judged_by_the_phase_and_without_one_only_for_consistency() -> None:
    model = lora()
    assert codes(model, phase="eval") == ["TL102"]
    model.eval()
    assert codes(model, phase="train") == ["TL101"]
    assert codes(model) == []
    model.base_model.model.model.layers[0].train()
    assert codes(model) == ["TL107"]
    assert codes(lora(llama().eval())) == ["TL107"]


def test_allow_eval_and_allow_train_take_globs_and_modules() -> None:
    model = lora()
    layer = model.base_model.model.model.layers[0]
    layer.eval()
    assert codes(model, phase="train") == ["TL107"]
    assert codes(model, phase="train", allow_eval=["*.layers.0"]) == []
    assert codes(model, phase="train", allow_eval="layers.0") == []
    assert codes(model, phase="train", allow_eval=[layer]) == []
    model.eval()
    layer.train()
    assert codes(model, phase="eval") == ["TL102"]
    assert codes(model, phase="eval", allow_train=layer) == []


def test_verify_lists_every_violation_and_is_an_assertion() -> None:
    model = lora()
    model.eval()
    model.base_model.model.model.layers[0].mlp.up_proj.weight.requires_grad = True
    with pytest.raises(AssertionError) as caught:
        verify(model, adamw(model))
    assert isinstance(caught.value, TrainingStateError)
    assert {v.code for v in caught.value.violations} == {"TL101", "TL416"}
    assert "TL101" in str(caught.value)
    assert "up_proj" in str(caught.value)


def test_select_and_ignore() -> None:
    model = lora()
    model.eval()
    assert codes(model, phase="train", ignore=["TL101"]) == []
    assert codes(model, phase="train", ignore="train-in-eval-mode") == []
    assert codes(model, phase="train", select=["TL4"]) == []
    assert codes(model, phase="train", select="TL1,TL4") == ["TL101"]


def test_adapter_causes_are_told_apart(tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training

    model = lora()
    model.save_pretrained(tmp_path)
    assert codes(PeftModel.from_pretrained(llama(), tmp_path).train(), phase="train") == ["TL401"]
    saved = LoraConfig.from_pretrained(tmp_path)
    assert codes(get_peft_model(llama(), saved).train(), phase="train") == ["TL402"]
    quantised = lora()
    quantised.base_model.model.is_loaded_in_4bit = True
    prepare_model_for_kbit_training(quantised, use_gradient_checkpointing=False)
    assert codes(quantised, phase="train") == ["TL403"]
    model.requires_grad_(False)
    assert codes(model, phase="train") == ["TL404"]


def test_an_adapter_that_trains_and_is_not_active() -> None:
    from peft import LoraConfig

    model = lora()
    model.add_adapter("second", LoraConfig(r=4, target_modules=["q_proj"]))
    for name, parameter in model.named_parameters():
        if "second" in name:
            parameter.requires_grad = True
    found = inspect(model, phase="train").violations
    assert [v.code for v in found] == ["TL407"]
    assert all("second" in name for name in found[0].parameters)


def test_a_tuner_layer_replaced_by_a_plain_one() -> None:
    model = lora()
    model.base_model.model.model.layers[0].self_attn.q_proj = nn.Linear(32, 32)
    found = inspect(model, phase="train", select="TL417").violations
    assert len(found) == 1
    assert found[0].modules[0].endswith("layers.0.self_attn.q_proj")


def test_healthy_but_irregular_for_peft() -> None:
    from peft import LoraConfig
    from peft.optimizers import create_lorafa_optimizer

    lorafa = lora()
    create_lorafa_optimizer(model=lorafa, r=4, lora_alpha=8, lr=1e-2)
    copies = lora(modules_to_save=["lm_head"])
    copies.add_adapter("second", LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    copies.set_adapter("second")
    for model in (lora(init_lora_weights="mica"), lorafa, copies):
        status = model.get_model_status()
        values = (status.enabled, status.active_adapters, *status.requires_grad.values())
        assert "irregular" in values
        assert inspect(model, phase="train").violations == []
    merged = lora(modules_to_save=["lm_head"])
    merged.merge_adapter()
    assert inspect(merged).violations == []


def test_requires_grad_on_a_module_freezes_nothing() -> None:
    model = convnet()
    model.backbone.requires_grad = False  # type: ignore[assignment]
    assert codes(model) == ["TL307"]
    model = convnet()
    model.head.weight.require_grad = False  # type: ignore[attr-defined]
    assert codes(model) == ["TL307"]


def test_layers_in_a_plain_list() -> None:
    model = convnet()
    model.extra = [nn.Linear(3, 3)]  # type: ignore[assignment]
    assert codes(model) == ["TL503"]


def test_optimizers_are_judged_together() -> None:
    model = convnet()
    a, b = torch.optim.SGD(model.backbone.parameters(), 0.1), adamw(model.head)
    assert codes(model, [a, b]) == []
    assert codes(model, a) == ["TL303"]
    assert codes(model, adamw(convnet())) == ["TL304"]
    model.requires_grad_(False)
    assert codes(model, [a, b]) == ["TL301"]


def test_expectations_turn_silence_into_checks() -> None:
    model = convnet()
    assert codes(model, expect=Expect(frozen="backbone.*")) == ["TL307"]
    model.backbone.requires_grad_(False)
    assert codes(model, expect=Expect(frozen="backbone.*", trainable="head")) == []
    found = inspect(model, expect=Expect(trainable=["backbone.0.*"])).violations
    assert [v.code for v in found] == ["TL701"]
    assert found[0].parameters == ("backbone.0.weight", "backbone.0.bias")
    assert codes(model, phase="train", expect=Expect(eval="backbone")) == ["TL105"]
    assert codes(lora(), expect=Expect(active="default")) == []


def test_frozen_stages_that_are_not_frozen() -> None:
    """MMPretrain-702: freezing is done in `train()`, which nobody calls."""

    class Stages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

        def train(self, mode: bool = True) -> Stages:
            super().train(mode)
            self.stem.requires_grad_(False)
            return self

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.stem(x))
            return out

    model = Stages()
    optimizer = adamw(model)
    expect = Expect(frozen="stem")
    with pytest.raises(TrainingStateError) as caught, watch(model, optimizer, expect=expect):
        image_step(model, optimizer)
    assert caught.value.violations[0].parameters == ("stem.weight", "stem.bias")


def test_functional_dropout_in_eval_is_seen() -> None:
    class Always(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(self.layer(x), 0.5)

    model = Always().eval()
    with pytest.raises(TrainingStateError) as caught, watch(model), torch.no_grad():
        model(images()[0])
    assert caught.value.violations[0].code == "TL501"
    assert not hasattr(nn.functional.dropout, "__closure__") or nn.functional.dropout.__module__


def test_an_evaluation_that_moves_a_buffer() -> None:
    class Buffered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 3)
            self.register_buffer("mean", torch.zeros(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.layer(x)
            self.mean.add_(out.detach().mean(0))
            return out

    model = Buffered().eval()
    with pytest.raises(TrainingStateError) as caught, watch(model), torch.no_grad():
        model(images()[0])
    found = caught.value.violations[0]
    assert (found.code, found.parameters) == ("TL704", ("mean",))


def _normalised() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.utils.spectral_norm(nn.Linear(8, 8)), nn.Linear(8, 3))


def test_spectral_norm_before_its_first_training_forward() -> None:
    """PT-51800: torch divides by a norm that no power iteration has computed."""
    model = _normalised().eval()
    with pytest.raises(TrainingStateError) as caught, watch(model), torch.no_grad():
        model(images()[0])
    found = caught.value.violations[0]
    assert (found.code, found.parameters) == ("TL704", ("0.weight",))


def test_spectral_norm_once_trained_or_loaded_is_silent() -> None:
    trained = _normalised()
    optimizer = adamw(trained)
    with watch(trained, optimizer) as run:
        for step in range(4):
            image_step(trained, optimizer, step)
        trained.eval()
        with torch.no_grad():
            trained(images()[0])  # computes the weight anew: the step moved `weight_orig`
    assert run.report.violations == []
    loaded = _normalised()
    loaded.load_state_dict(trained.state_dict())
    loaded.eval()
    with watch(loaded) as run, torch.no_grad():
        loaded(images()[0])
    assert run.report.violations == []


class _Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop = nn.Linear(8, 3), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.drop(self.layer(x))
        return out


class _NoSuper(_Parts):
    def train(self, mode: bool = True) -> _NoSuper:
        self.training = mode
        return self


class _NoMode(_Parts):
    def train(self) -> _NoMode:  # type: ignore[override]
        super().train(True)
        return self


class _RunsTraining(_Parts):
    def train(self, batches: object) -> None:  # type: ignore[override]
        for batch in batches:  # type: ignore[attr-defined]
            self(batch).sum().backward()


class _EvalIsAMetric(_Parts):
    def eval(self, scores: list[float] | None = None) -> Any:
        return sum(scores or [])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (_NoSuper, "`_NoSuper.train` does not call `super().train(mode)`"),
        (_NoMode, "`_NoMode.train` takes no mode"),
        (_RunsTraining, "`_RunsTraining.train` runs the training"),
        (_EvalIsAMetric, "`_EvalIsAMetric.eval` does not switch"),
    ],
)
def test_an_override_of_train_that_breaks_switching(kind: type[nn.Module], words: str) -> None:
    model = nn.Sequential(kind())
    found = inspect(model).violations
    assert [v.code for v in found] == ["TL504"]
    assert found[0].modules == ("0",)
    assert words in found[0].message


def test_a_watch_says_so_at_the_first_backward() -> None:
    model = _NoSuper()
    optimizer = adamw(model)
    with pytest.raises(TrainingStateError) as caught, watch(model, optimizer):
        image_step(model, optimizer)
    found = caught.value.violations[0]
    assert (found.code, found.step) == ("TL504", 1)


def test_overrides_that_are_meant_are_left_alone() -> None:
    class StaysInEval(_Parts):
        def train(self, mode: bool = True) -> StaysInEval:
            return self

    class Frozen(_Parts):
        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self.drop.eval()
            return self

    class ByHand(_Parts):
        def train(self, mode: bool = True) -> ByHand:
            self.training = mode
            for child in self.children():
                child.train(mode)
            return self

    for kind in (StaysInEval, Frozen, ByHand):
        assert codes(nn.Sequential(kind())) == []


def test_gradients_that_pile_up_where_no_optimizer_holds_them() -> None:
    student, judge = convnet(), nn.Linear(3, 1)
    optimizer = adamw(student)
    with pytest.raises(TrainingStateError) as caught, watch(judge):  # noqa: PT012
        for step in range(3):
            optimizer.zero_grad()
            judge(student(images(step)[0])).mean().backward()
            optimizer.step()
    assert caught.value.violations[0].code == "TL308"


def test_disable_adapter_that_unfreezes() -> None:
    model = lora()
    model.requires_grad_(False)
    with pytest.raises(TrainingStateError) as caught, watch(model), model.disable_adapter():
        pass
    found = caught.value.violations[0]
    assert found.code == "TL415"
    assert len(found.parameters) == 8


def test_the_switch_is_named_by_its_line() -> None:
    model = lora()
    optimizer = adamw(model)
    with watch(model, optimizer, on_violation=lambda v: None) as run:
        one_step(model, optimizer)
        model.eval()  # the line at fault
        one_step(model, optimizer)
    found = run.report.violations[0]
    assert (found.code, found.step) == ("TL101", 2)
    line = int(found.related[0].split(":")[1])
    assert "the line at fault" in Path(__file__).read_text().splitlines()[line - 1]


def test_unregistered_call_of_the_step_is_once_per_cause() -> None:
    model = lora()
    model.eval()
    optimizer = adamw(model)
    seen: list[Any] = []
    with watch(model, optimizer, on_violation=seen.append):
        loop(model, optimizer, 6)
    assert len(seen) == 1


def test_ways_to_act(caplog: pytest.LogCaptureFixture) -> None:
    model = lora()
    model.eval()
    optimizer = adamw(model)
    warned = watch(model, optimizer, on_violation="warn")
    with pytest.warns(TrainingStateWarning, match="TL101"), warned:
        one_step(model, optimizer)
    with watch(model, optimizer, on_violation="log"):
        one_step(model, optimizer)
    assert "TL101" in caplog.text


def test_report(tmp_path: Path) -> None:
    model = lora()
    model.eval()
    optimizer = adamw(model)
    path = tmp_path / "run.json"
    with watch(model, optimizer, on_violation="log", report=path) as run:
        loop(model, optimizer, 3)
    data = json.loads(path.read_text())
    assert data == run.report.to_dict() or data["violations"][0]["code"] == "TL101"
    assert data["steps"] == 3
    assert not data["ok"]
    assert "TL101 train-in-eval-mode" in str(run.report)
    run.report.to_html(tmp_path / "run.html")
    assert "train-in-eval-mode" in (tmp_path / "run.html").read_text()


def test_observe_reads_the_facts() -> None:
    from peft import LoraConfig

    model = lora(modules_to_save=["lm_head"])
    model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"]))
    first, second = observe(model).adapters()
    assert (first.name, first.kind, first.active, first.merged) == ("default", "LORA", True, False)
    assert (first.trainable.value, second.trainable.value) == ("all", "none")
    assert second.active is False
    facts = observe(torch.compile(model)).facts()
    assert facts.mode.mode.value == "train"
    assert facts.adapters is not None
    assert facts.adapters.active == ("default",)


def test_observe_tells_what_is_shared_and_where_it_lies() -> None:
    model = llama(tie_word_embeddings=True)
    assert observe(model).shared() == [("model.embed_tokens.weight", "lm_head.weight")]
    model = convnet()
    model.head.half()
    assert observe(model).shared() == []
    assert observe(model).places() == {("cpu", "float32"): 8, ("cpu", "float16"): 2}


def _injected() -> nn.Module:
    from peft import LoraConfig, inject_adapter_in_model

    return inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj"]), llama())


def _integrated() -> nn.Module:
    from peft import LoraConfig

    model: Any = llama()
    model.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]), "default")
    return model  # type: ignore[no-any-return]


def _mixed() -> nn.Module:
    from peft import LoHaConfig, LoraConfig, get_peft_model

    model: Any = get_peft_model(llama(), LoraConfig(r=2, target_modules=["q_proj"]), mixed=True)
    model.add_adapter("loha", LoHaConfig(r=2, target_modules=["v_proj"]))
    return model  # type: ignore[no-any-return]


def _prompts() -> nn.Module:
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    return get_peft_model(llama(), config)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("build", "slots"),
    [
        (lambda: lora(), 8),
        (lambda: lora(use_dora=True), 12),
        (lambda: lora(modules_to_save=["lm_head"]), 9),
        (lambda: lora(trainable_token_indices=[1, 2]), 9),
        (lambda: lora(target_modules=[], target_parameters=["q_proj.weight"], lora_dropout=0.0), 4),
        (_injected, 4),
        (_integrated, 4),
        (_mixed, 4),
        (_prompts, 1),
    ],
    ids=[
        "lora", "dora", "modules_to_save", "trainable tokens", "parameter targets", "injected",
        "transformers", "mixed", "prompt",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wrap", [lambda m: m, torch.compile, nn.DataParallel])
def test_observe_reads_every_kind_of_adapter_through_any_wrapper(
    build: Any, slots: int, wrap: Any
) -> None:
    state = observe(wrap(build()))
    default = next(a for a in state.adapters() if a.name == "default")
    held = [s for s in state.slots if s.adapter == "default"]
    assert (default.enabled, default.active, default.merged) == (True, True, False)
    assert default.trainable.value == "all"
    assert len(held) == slots


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: inspect(object()), TypeError, "torch.nn.Module"),
        (lambda: watch("model"), TypeError, "got str"),
        (lambda: inspect(convnet(), object()), TypeError, "torch.optim.Optimizer"),
        (lambda: inspect(convnet(), phase="training"), ValueError, "'train', 'eval' or None"),
        (
            lambda: inspect(convnet(), allow_eval=["backbnoe"]),
            ValueError,
            "did you mean 'backbone'",
        ),
        (lambda: inspect(convnet(), allow_train=[3]), TypeError, "glob patterns or modules"),
        (lambda: inspect(convnet(), allow_train=nn.ReLU()), ValueError, "no sub-module"),
        (lambda: inspect(convnet(), expect=Expect(frozen="bckbone")), ValueError, "no parameter"),
        (lambda: inspect(convnet(), expect={"frozen": "x"}), TypeError, "Expect"),
        (lambda: Expect(frozen=3), TypeError, "glob patterns"),
        (lambda: inspect(convnet(), expect=Expect(active="a")), ValueError, "no adapters"),
        (lambda: inspect(convnet(), select=["TL999"]), ValueError, "rule codes"),
        (lambda: watch(convnet(), ignore="train-in-eval"), ValueError, "train-in-eval-mode"),
        (lambda: watch(convnet(), on_violation="explode"), ValueError, "'raise', 'warn'"),
        (lambda: watch(convnet(), every=0), ValueError, "number of steps"),
        (lambda: watch(convnet(), report="run.txt"), ValueError, ".json or .html"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_wrong_use_says_what_was_expected(call: Any, error: Any, words: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def test_a_watch_left_open_is_closed_and_said() -> None:
    model = convnet()
    before = nn.Module.train
    opened: Any = watch(model)
    opened.__enter__()
    with pytest.raises(RuntimeError, match="already open"):
        opened.__enter__()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del opened
        gc.collect()
    assert any("left open" in str(w.message) for w in caught)
    assert nn.Module.train is before
    assert not model._forward_pre_hooks


def test_a_watch_never_entered_is_said() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watch(convnet())
        gc.collect()
    assert any("never entered" in str(w.message) for w in caught)
