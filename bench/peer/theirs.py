"""The peer: TRL's trainers and transformers' `generate`. Runs inside the virtual environment; one process, one
measurement.

    python theirs.py online|dpo|sampling SPEC     prints one JSON object

`seconds` are the steps between the trainer's own callbacks (loading, data and logging are outside), or whole calls of
`generate`; dropping the first is left to the caller.
"""
import json
import sys
import tempfile
import time

import peft
import torch
import transformers
import trl
from datasets import Dataset

#: How a precision can be had: the weights' type, whether the trainer computes under autocast, the adapter's type
#: (PEFT makes it f32 by itself).
PRECISIONS = {
    "f32": (torch.float32, False, torch.float32),
    "bf16-autocast": (torch.float32, True, torch.float32),
    "bf16-mixed": (torch.bfloat16, True, torch.float32),
    "bf16-pure": (torch.bfloat16, False, torch.bfloat16),
}


class Clock(transformers.TrainerCallback):
    def __init__(self):
        self.seconds = []

    def on_step_begin(self, *_, **__):
        self.started = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.seconds.append(time.perf_counter() - self.started)


def load(spec):
    dtype = PRECISIONS[spec["precision"]][0]
    tokenizer = transformers.AutoTokenizer.from_pretrained(spec["model"])
    return transformers.AutoModelForCausalLM.from_pretrained(spec["model"], dtype=dtype), tokenizer


def settings(spec, folder):
    """What both trainers are told."""
    return {
        "output_dir": folder,
        "use_cpu": True,
        "bf16": PRECISIONS[spec["precision"]][1],
        "gradient_checkpointing": spec["gradient_checkpointing"],
        "per_device_train_batch_size": spec["rows_per_step"],
        "max_steps": spec["steps"],
        "beta": 0.1,
        "learning_rate": 1e-6,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "dataloader_pin_memory": False,
        "seed": spec["seed"],
    }


def lora():
    return peft.LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def trained(trainer, spec, tokens):
    """Trains, and tells how long steps took and how many tokens each had."""
    adapter = PRECISIONS[spec["precision"]][2]
    weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    for weight in weights:
        weight.data = weight.data.to(adapter)
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    [(prompt, response)] = set(tokens)
    return {
        "seconds": clock.seconds,
        "prompt_tokens": prompt,
        "response_tokens": response,
        "trainable": sum(weight.numel() for weight in weights),
    }


def online(spec):
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    tokens = []

    class Counting(OnlineDPOTrainer):
        def _generate(self, model, prompts, images=None):
            generated = super()._generate(model, prompts, images)
            tokens.append((int(generated[1][: len(prompts)].sum()), int(generated[3].sum())))
            return generated

    def longest(completions, **_):
        return [float(len(c if isinstance(c, str) else c[-1]["content"])) for c in completions]

    model, tokenizer = load(spec)
    with tempfile.TemporaryDirectory() as folder:
        config = OnlineDPOConfig(
            **settings(spec, folder),
            max_new_tokens=spec["new_tokens"],
            generation_kwargs={"min_new_tokens": spec["new_tokens"]},
            temperature=1.0,
            max_length=4096,
        )
        rows = Dataset.from_json(spec["rows"])
        trainer = Counting(
            model, reward_funcs=longest, args=config, train_dataset=rows, processing_class=tokenizer, peft_config=lora()
        )
        return trained(trainer, spec, tokens)


def dpo(spec):
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    tokens = []

    class Counting(DataCollatorForPreference):
        def torch_call(self, examples):
            batch = super().torch_call(examples)
            response = int(batch["completion_mask"].sum())
            tokens.append((int(batch["attention_mask"].sum() - response) // 2, response))
            return batch

    model, tokenizer = load(spec)
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(
            **settings(spec, folder), max_length=None, precompute_ref_log_probs=spec["precompute_ref_log_probs"]
        )
        trainer = DPOTrainer(
            model,
            args=config,
            train_dataset=Dataset.from_json(spec["rows"]),
            processing_class=tokenizer,
            peft_config=lora(),
            data_collator=Counting(pad_token_id=tokenizer.pad_token_id),
        )
        return trained(trainer, spec, tokens)


def sampling(spec):
    model, tokenizer = load(spec)
    model.eval()
    with open(spec["rows"], encoding="utf-8") as file:
        prompts = [json.loads(line)["prompt"] for line in file]
    if not isinstance(prompts[0], str):
        prompts = [tokenizer.apply_chat_template(p, add_generation_prompt=True, tokenize=False) for p in prompts]
    size, new = spec["rows_per_step"], spec["new_tokens"]
    seconds, read, written = [], 0, 0

    def generate(batch, new):
        return model.generate(
            **batch, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, use_cache=True,
            max_new_tokens=new, min_new_tokens=new, pad_token_id=tokenizer.pad_token_id,
            cache_implementation=spec["cache"],
        )

    for start in range(0, len(prompts), size):
        batch = tokenizer(
            prompts[start : start + size], return_tensors="pt", padding=True, padding_side="left",
            add_special_tokens=False,
        )
        if start == 0:
            generate(batch, 8)
        started = time.perf_counter()
        output = generate(batch, new)
        seconds.append(time.perf_counter() - started)
        read += int(batch["attention_mask"].sum())
        written += (output.shape[1] - batch["input_ids"].shape[1]) * len(output)
    return {"seconds": seconds, "prompt_tokens": read, "response_tokens": written}


def main():
    spec = json.loads(sys.argv[2])
    torch.set_num_threads(spec["threads"])
    result = {"online": online, "dpo": dpo, "sampling": sampling}[sys.argv[1]](spec)
    versions = {module.__name__: module.__version__ for module in (torch, transformers, trl, peft)}
    print(json.dumps({**result, "versions": versions}))


if __name__ == "__main__":
    main()
