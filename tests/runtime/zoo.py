"""Every PEFT type that the installed peft offers, on the smallest model it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from tests.runtime.tiny import llama, tokens

Q = ["q_proj"]
QV = ["q_proj", "v_proj"]
LM = "CAUSAL_LM"


@dataclass(frozen=True)
class Kind:
    """One type: its config's class and the options that it takes on the tiny model."""

    config: str
    options: dict[str, Any]

    def __call__(self, base: nn.Module | None = None) -> Any:
        import peft

        base = llama(head_dim=8) if base is None else base
        return peft.get_peft_model(base, getattr(peft, self.config)(**self.options))

    def code(self, **more: Any) -> str:
        """The config as one writes it."""
        given = ", ".join(f"{k}={v!r}" for k, v in {**self.options, **more}.items())
        return f"{self.config}({given})"


def _make(config: str, **options: Any) -> Kind:
    return Kind(config, options)


ZOO: dict[str, Kind] = {
    "LORA": _make("LoraConfig", task_type=LM, target_modules=QV, r=4, lora_dropout=0.1),
    "DORA": _make("LoraConfig", task_type=LM, target_modules=QV, r=4, use_dora=True),
    "MICA": _make("LoraConfig", task_type=LM, target_modules=QV, r=4, init_lora_weights="mica"),
    "TARGET_PARAMETERS": _make(
        "LoraConfig", task_type=LM, r=4, target_modules=[], target_parameters=["q_proj.weight"]
    ),
    "MODULES_TO_SAVE": _make(
        "LoraConfig", task_type=LM, target_modules=Q, r=4, modules_to_save=["lm_head"]
    ),
    "LORA_TOKENS": _make(
        "LoraConfig", task_type=LM, target_modules=Q, r=4, trainable_token_indices=[1, 2]
    ),
    "ADALORA": _make("AdaLoraConfig", task_type=LM, target_modules=QV, total_step=100),
    "ADAMSS": _make("AdamssConfig", task_type=LM, target_modules=QV),
    "ADAPTION_PROMPT": _make("AdaptionPromptConfig", task_type=LM, adapter_len=4, adapter_layers=2),
    "BEFT": _make("BeftConfig", task_type=LM, target_modules=QV),
    "BOFT": _make("BOFTConfig", task_type=LM, target_modules=QV, boft_block_size=4),
    "C3A": _make("C3AConfig", task_type=LM, target_modules=QV, block_size=8),
    "CARTRIDGE": _make("CartridgeConfig", task_type=LM, num_virtual_tokens=4),
    "CPT": _make(
        "CPTConfig",
        task_type=LM,
        cpt_token_ids=[0, 1, 2, 3],
        cpt_mask=[1, 1, 1, 1],
        cpt_tokens_type_mask=[1, 2, 3, 4],
    ),
    "DEFT": _make("DeftConfig", task_type=LM, target_modules=QV),
    "DELORA": _make("DeloraConfig", task_type=LM, target_modules=QV),
    "FOURIERFT": _make("FourierFTConfig", task_type=LM, target_modules=QV, n_frequency=20),
    "FROD": _make("FrodConfig", task_type=LM, target_modules=QV),
    "GLORA": _make("GloraConfig", task_type=LM, target_modules=QV),
    "GRALORA": _make("GraloraConfig", task_type=LM, target_modules=QV, r=4),
    "HIRA": _make("HiraConfig", task_type=LM, target_modules=QV, r=4),
    "HRA": _make("HRAConfig", task_type=LM, target_modules=QV),
    "IA3": _make("IA3Config", task_type=LM, target_modules=QV, feedforward_modules=[]),
    "LILY": _make("LilyConfig", task_type=LM, target_modules=QV, r=4),
    "LN_TUNING": _make("LNTuningConfig", task_type=LM, target_modules=["input_layernorm"]),
    "LOHA": _make("LoHaConfig", task_type=LM, target_modules=QV, r=4),
    "LOKR": _make("LoKrConfig", task_type=LM, target_modules=QV, r=4),
    "MISS": _make("MissConfig", task_type=LM, target_modules=QV, r=4),
    "MULTITASK_PROMPT_TUNING": _make(
        "MultitaskPromptTuningConfig", task_type=LM, num_virtual_tokens=3, num_tasks=2
    ),
    "OFT": _make("OFTConfig", task_type=LM, target_modules=QV, oft_block_size=4),
    "OSF": _make("OSFConfig", task_type=LM, target_modules=QV),
    "P_TUNING": _make(
        "PromptEncoderConfig", task_type=LM, num_virtual_tokens=3, encoder_hidden_size=16
    ),
    "PEANUT": _make("PeanutConfig", task_type=LM, target_modules=QV),
    "POLY": _make("PolyConfig", task_type=LM, target_modules=QV, r=4),
    "PREFIX_TUNING": _make("PrefixTuningConfig", task_type=LM, num_virtual_tokens=3),
    "PROMPT_TUNING": _make("PromptTuningConfig", task_type=LM, num_virtual_tokens=3),
    "PSOFT": _make("PsoftConfig", task_type=LM, target_modules=QV, r=4),
    "PVERA": _make("PveraConfig", task_type=LM, target_modules=QV, r=4),
    "RANDLORA": _make("RandLoraConfig", task_type=LM, target_modules=QV, r=4),
    "ROAD": _make("RoadConfig", task_type=LM, target_modules=QV, group_size=8),
    "SHADOW": _make("ShadowConfig", task_type=LM),
    "SHIRA": _make("ShiraConfig", task_type=LM, target_modules=QV, r=4),
    "SUPERTUNING": _make("SupertuningConfig", task_type=LM, target_modules=QV),
    "TINYLORA": _make("TinyLoraConfig", task_type=LM, target_modules=QV),
    "TRAINABLE_TOKENS": _make("TrainableTokensConfig", task_type=LM, token_indices=[1, 2, 3]),
    "UNILORA": _make("UniLoraConfig", task_type=LM, target_modules=QV, r=4),
    "VBLORA": _make(
        "VBLoRAConfig", task_type=LM, target_modules=QV, r=4, num_vectors=16, vector_length=8
    ),
    "VERA": _make("VeraConfig", task_type=LM, target_modules=QV, r=4),
    "WAVEFT": _make("WaveFTConfig", task_type=LM, target_modules=QV, n_frequency=20),
}


def loss(model: Any, kind: str, seed: int = 0) -> Any:
    """The loss on a batch, with what some types want beside it."""
    import torch

    batch = tokens(seed)
    more: dict[str, Any] = {}
    if kind in ("POLY", "MULTITASK_PROMPT_TUNING"):
        more["task_ids"] = torch.zeros(2, dtype=torch.long)
    if kind == "CPT":
        more["input_type_mask"] = torch.full_like(batch, 4)
    return model(input_ids=batch, labels=batch, **more).loss


def train(model: Any, optimizer: Any, kind: str, steps: int = 3, seed: int = 0) -> None:
    """A plain loop."""
    for step in range(steps):
        optimizer.zero_grad()
        loss(model, kind, seed + step).backward()
        optimizer.step()
        held = [p for n, p in model.named_parameters() if "lora_" in n]
        if kind == "ADALORA" and all(p.grad is not None for p in held):
            model.base_model.update_and_allocate(step)
