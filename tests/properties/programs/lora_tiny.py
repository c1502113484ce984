"""LoRA on a small language model of random weights, evaluated every few steps."""

import math

import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, get_linear_schedule_with_warmup


def get_batch(data, size, length):
    starts = torch.randint(0, len(data) - length, (size,)).tolist()
    return torch.stack([data[s : s + length] for s in starts])


def estimate_loss(model, data, rounds=2):
    model.eval()
    losses = []
    for _ in range(rounds):
        batch = get_batch(data, 4, 16)
        with torch.no_grad():
            losses.append(model(input_ids=batch, labels=batch).loss.item())
    model.train()
    return sum(losses) / rounds


def build():
    config = GPT2Config(vocab_size=64, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    base = GPT2LMHeadModel(config)
    lora = LoraConfig(
        r=4, lora_alpha=8, lora_dropout=0.05, target_modules=["c_attn"], task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, lora)
    model.print_trainable_parameters()
    return model


def main(steps=12, accumulation=2):
    data = torch.randint(0, 64, (400,))
    model = build()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-3, weight_decay=0.0)
    scheduler = get_linear_schedule_with_warmup(optimizer, 2, steps // accumulation)
    model.train()
    optimizer.zero_grad()
    for step in range(steps):
        batch = get_batch(data, 4, 16)
        output = model(input_ids=batch, labels=batch)
        loss = output.loss / accumulation
        loss.backward()
        if (step + 1) % accumulation == 0:
            torch.nn.utils.clip_grad_norm_(trainable, 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        if step % 4 == 3:
            print(step, math.exp(estimate_loss(model, data)))
    merged = model.merge_and_unload()
    merged.eval()
    with torch.no_grad():
        print(merged(input_ids=data[None, :16]).logits.shape)


if __name__ == "__main__":
    main()
