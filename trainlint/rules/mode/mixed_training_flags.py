"""TL107."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Evaluation, TrainStep
from trainlint.core.facts import Cause, Certainty, Mode, ModelFacts, Origin, PartFact
from trainlint.core.rule import Finding, Rule
from trainlint.rules.mode.evaluation import is_relied_on
from trainlint.rules.mode.sensitivity import (
    as_versions_differ,
    eval_where_it_matters,
    stray_parts,
    weighed,
)
from trainlint.rules.wording import listed


class MixedTrainingFlags(
    Rule[TrainStep | Evaluation],
    code="TL107",
    name="mixed-training-flags",
    severity=Severity.WARNING,
):
    """Parts of one model are in different modes, and nobody asked for that.

    ## Why is this bad?
    `from_pretrained` returns a model in eval mode. What is added to it afterwards is new and in
    train mode: adapters of `get_peft_model`, a head, a module around it. The model then trains
    with dropout in one part and without in the other. The flag of the outermost module tells
    nothing about the rest.

    ## Example
    ```python
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained("gpt2")
    model = get_peft_model(base, LoraConfig(r=8, lora_dropout=0.1, task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    for batch in torch.utils.data.DataLoader(torch.load("batches.pt")):
        loss = model(**batch).loss
        loss.backward()  # warning: [mixed-training-flags]
        optimizer.step()
        optimizer.zero_grad()
    ```

    ## Use instead
    ```python
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained("gpt2")
    model = get_peft_model(base, LoraConfig(r=8, lora_dropout=0.1, task_type="CAUSAL_LM"))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    for batch in torch.utils.data.DataLoader(torch.load("batches.pt")):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    ```

    ## What it leaves alone
    A mix that nothing trains or evaluates with, a part that was put in a mode by itself (a frozen
    backbone, batch normalisation), a frozen feature extractor, a `Trainer` or a `model.train()`
    that heals the mix before the step.

    ## Fix safety
    `model.train()` turns on the dropout of the pretrained part, which changes the results.
    """

    message = "`{model}` is {done} with {parts} in eval mode and the rest in train mode{when}"
    on = (TrainStep, Evaluation)
    triggers = (
        b"Trainer",
        b"backward",
        b"train",
        b".fit(",
        b".step(",
        b"optim",
        b"eval",
        b"peft",
        b"no_grad",
    )
    live = True

    def check(self, event: TrainStep | Evaluation) -> Iterator[Finding]:
        if isinstance(event, TrainStep):
            for model in event.models:
                yield from self._mixed(event, model, "trained")
        elif is_relied_on(event) and _acts_in_evaluation(event.model):
            yield from self._mixed(event, event.model, "evaluated")

    def _mixed(
        self, event: TrainStep | Evaluation, model: ModelFacts, done: str
    ) -> Iterator[Finding]:
        if model.mode.mode is not Mode.MIXED or model.managed or eval_where_it_matters(model):
            return
        parts = stray_parts(model)
        if not parts or any(part.mode.cause is Cause.PEFT_LOAD_ADAPTER for part in parts):
            return
        finding = self.finding(
            event.site,
            model=model.name,
            done=done,
            parts=listed(tuple(part.name for part in parts)),
            when=event.when,
        )
        if isinstance(event, TrainStep):
            finding = as_versions_differ(finding, event, parts[0].mode)
        switch = "train" if done == "trained" else "eval"
        finding = finding.because(*(part.mode.origin for part in parts), _mixer(model))
        yield weighed(
            finding.mend(f"call `{model.name}.{switch}()` before it").about(
                *(part.name for part in parts)
            ),
            _sensitivity(parts) if done == "trained" else model.sensitive,
        )


def _mixer(model: ModelFacts) -> Origin | None:
    adapters = model.adapters
    return adapters.injected if adapters is not None else None


def _sensitivity(parts: tuple[PartFact, ...]) -> Certainty:
    indifferent = all(part.sensitive is Certainty.NO for part in parts)
    return Certainty.NO if indifferent else Certainty.UNKNOWN


def _acts_in_evaluation(model: ModelFacts) -> bool:
    """Something that depends on the mode, and that nobody put in train mode, is in train mode."""
    return any(
        part.mode.mode is Mode.TRAIN and part.sensitive is Certainty.YES for part in model.parts
    )
