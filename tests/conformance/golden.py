"""Writes golden.json: what transformers computes for the tiny models of this suite.

    pip install torch transformers numpy
    python tests/conformance/golden.py > tests/conformance/golden.json

Weights are not stored: they are a hash of their name and index, here and in tiny.rs alike. Everything is computed in
float64, but for norms and rotary angles, which transformers computes in float32 whatever the model's dtype is.
"""

import json

import numpy as np
import torch
import transformers

BASE = {
    "vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 6, "max_position_embeddings": 64, "tie_word_embeddings": False,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}
LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 2.0, "beta_slow": 0.2, "original_max_position_embeddings": 16}
# Within the context of pre-training, where the short factors are at work.
LONGROPE = {
    "rope_type": "longrope", "short_factor": [1.1, 1.7], "long_factor": [2.5, 6.0],
    "original_max_position_embeddings": 32,
}
MODELS = {
    "llama": {"model_type": "llama"},
    "llama3": {"model_type": "llama", "tie_word_embeddings": True, "rope_scaling": LLAMA3},
    "mistral": {"model_type": "mistral", "sliding_window": 4},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3"},
    "linear": {"model_type": "llama", "rope_scaling": {"rope_type": "linear", "factor": 3.0}},
    "dynamic": {"model_type": "qwen2", "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
    "yarn": {"model_type": "qwen3", "rope_scaling": YARN},
    "longrope": {
        "model_type": "phi3", "rope_scaling": LONGROPE, "partial_rotary_factor": 0.7, "sliding_window": 5,
        "original_max_position_embeddings": 32,
    },
    "gemma": {"model_type": "gemma", "tie_word_embeddings": True, "hidden_activation": "gelu_pytorch_tanh"},
}
GROUPS = [
    {"prompt": [3], "responses": [[7, 7, 3, 60], [4, 2]]},
    {"prompt": [7, 1, 44, 9, 30, 2, 8, 51, 12], "responses": [[20, 23, 5, 19, 33, 41, 6, 58], [11]]},
    {"prompt": [5, 60, 2, 17], "responses": [[13, 37, 29], [31, 8, 8, 25, 47]]},
]
RANK, ALPHA = 3, 6.0


def uniform(name, count):
    """Numbers in [-1, 1) that float32 holds."""
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 % 2**32
    x = (np.arange(count, dtype=np.uint64) * 0x9E3779B9 + seed) % 2**32
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> shift)) * factor % 2**32
    return (x ^ (x >> 16)).astype(np.float64) // 256 / 2**23 - 1.0


def weight(name, shape, family):
    values = torch.tensor(uniform(name, int(np.prod(shape)))).reshape(shape)
    if "norm" in name:
        return values * 0.25 + (0.0 if family == "gemma" else 1.0)
    return values * (0.2 if name.endswith((".bias", ".lora_B")) else 0.3)


def log_probs(logits, prompt, response):
    predicted = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
    return predicted[range(len(response)), response]


def outcome(model, weights, leaves):
    """Log-probs of every response, and for each leaf the norm of the gradient of the sum over sequences i of
    (0.3 - 0.2 i) times the summed log-probs, and its product with a direction, by that norm."""
    rows = [(group["prompt"], response) for group in GROUPS for response in group["responses"]]
    loss, logps = 0.0, []
    for index, (prompt, response) in enumerate(rows):
        ids = torch.tensor([prompt + response])
        logits = torch.func.functional_call(model, weights, (ids,), {"use_cache": False}).logits[0]
        logps.append(log_probs(logits, prompt, response))
        loss = loss + (0.3 - 0.2 * index) * logps[-1].sum()
    gradients = {}
    for (name, leaf), gradient in zip(leaves.items(), torch.autograd.grad(loss, list(leaves.values()))):
        direction = torch.tensor(uniform("direction " + name, leaf.numel())).reshape(leaf.shape)
        norm = gradient.norm().item()
        gradients[name] = [norm, (gradient * direction).sum().item() / norm]
    return {"logps": [row.tolist() for row in logps], "gradients": gradients}


def case(name, changes):
    config = BASE | changes
    settings = transformers.AutoConfig.for_model(**config)
    model = transformers.AutoModelForCausalLM.from_config(settings, attn_implementation="eager").double().eval()
    leaf = lambda key, shape: weight(key, shape, changes["model_type"]).requires_grad_()
    full = {key: leaf(key, value.shape) for key, value in model.named_parameters()}
    branches, merged = {}, dict(full)
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and path != "lm_head":
            key = f"{path}.weight"
            a, b = f"{path}.lora_A", f"{path}.lora_B"
            branches |= {a: leaf(a, (RANK, module.in_features)), b: leaf(b, (module.out_features, RANK))}
            merged[key] = full[key] + ALPHA / RANK * branches[b] @ branches[a]
    return {"name": name, "config": config, "full": outcome(model, full, full), "lora": outcome(model, merged, branches)}


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


models = [rounded(case(name, changes)) for name, changes in MODELS.items()]
lines = ",\n".join(json.dumps(model) for model in models)
print(f'{{"groups": {json.dumps(GROUPS)},\n"rank": {RANK}, "alpha": {ALPHA},\n"models": [\n{lines}\n]}}')
