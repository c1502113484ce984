import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer


def evaluate(model, loader):
    model.eval()
    total = 0.0
    with torch.no_grad():
        for batch in loader:
            total += model(**batch).loss.item()
    return total / len(loader)


def train(train_set, eval_set, path="gpt2"):
    tokenizer = AutoTokenizer.from_pretrained(path)
    base = AutoModelForCausalLM.from_pretrained(path)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=8, lora_alpha=16, lora_dropout=0.1,
        target_modules=["c_attn"],
    )
    model = get_peft_model(base, config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    train_loader = DataLoader(train_set, batch_size=4, shuffle=True)
    eval_loader = DataLoader(eval_set, batch_size=4)
    for epoch in range(3):
        model.train()
        for batch in train_loader:
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        print(epoch, evaluate(model, eval_loader))
    model.save_pretrained("adapter")
    tokenizer.save_pretrained("adapter")


def resume(train_set, path="gpt2"):
    base = AutoModelForCausalLM.from_pretrained(path)
    model = PeftModel.from_pretrained(base, "adapter", is_trainable=True)
    optimizer = torch.optim.AdamW(
        filter(lambda p: p.requires_grad, model.parameters()), lr=1e-5
    )
    model.train()
    for batch in DataLoader(train_set, batch_size=4, shuffle=True):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
    merged = model.merge_and_unload()
    merged.save_pretrained("merged")
