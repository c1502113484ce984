import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import AutoModelForMaskedLM, get_scheduler


def main(train_set, eval_set, collate):
    accelerator = Accelerator(gradient_accumulation_steps=2)
    model = AutoModelForMaskedLM.from_pretrained("distilbert-base-uncased")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    train_dataloader = DataLoader(train_set, shuffle=True, batch_size=16, collate_fn=collate)
    eval_dataloader = DataLoader(eval_set, batch_size=16, collate_fn=collate)
    lr_scheduler = get_scheduler(
        "linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=1000
    )
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )
    for epoch in range(3):
        model.train()
        for batch in train_dataloader:
            with accelerator.accumulate(model):
                outputs = model(**batch)
                loss = outputs.loss
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
        model.eval()
        losses = []
        for batch in eval_dataloader:
            with torch.no_grad():
                outputs = model(**batch)
            losses.append(accelerator.gather(outputs.loss.repeat(16)))
        print(epoch, torch.cat(losses).mean())


if __name__ == "__main__":
    from my_data import collate, eval_set, train_set

    main(train_set, eval_set, collate)
