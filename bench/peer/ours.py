"""Our side of the measurements: one `bpo` process each, with results of the same form as those of theirs.py."""
import json
import re
import tempfile
from pathlib import Path

from common import Finished

HERE = Path(__file__).parent
#: What each precision is to `bpo`: bf16 is weights kept in bf16, and activations too but on flex.
PRECISIONS = {"f32": "float32", "bf16": "bfloat16"}


def sets(values):
    return [argument for key, value in values.items() for argument in ("--set", f"{key}={value}")]


def online(bpo, spec, environment):
    return trained(bpo, spec, environment, "online", {
        "prompts": spec["rows"], "max_new_tokens": spec["new_tokens"], "min_new_tokens": spec["new_tokens"],
    })


def dpo(bpo, spec, environment):
    return trained(bpo, spec, environment, "dpo", {"pairs": spec["rows"]})


def trained(bpo, spec, environment, recipe, values):
    with tempfile.TemporaryDirectory() as folder:
        # More rows than fit a micro-batch are several of them, as elsewhere.
        micro = min(spec["rows_per_step"], spec.get("micro_batch", spec["rows_per_step"]))
        values = {
            **values, "model": spec["model"], "max_steps": spec["steps"], "seed": spec["seed"],
            "dtype": PRECISIONS[spec["precision"]],
            "per_device_train_batch_size": micro, "gradient_accumulation_steps": spec["rows_per_step"] // micro,
        }
        command = [*bpo, "train", HERE / f"{recipe}.toml", "--run-dir", folder, *sets(values)]
        process = Finished(command, environment)
        steps = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    counts = {(step["collect/prompt_tokens"], step["collect/response_tokens"]) for step in steps}
    [(prompt, response)] = counts
    stages = {key: [step[key] for step in steps] for key in ("time/sample", "time/train") if key in steps[0]}
    return process, {
        "seconds": [step["time/step"] for step in steps],
        "prompt_tokens": prompt,
        "response_tokens": response,
        "trainable": int(re.search(r"(\d+) trainable", process.err)[1]),
        "stages": stages,
    }


def sampling(bpo, spec, environment):
    command = [
        *bpo, "generate", "--model", spec["model"], "--prompts", spec["rows"], "--json", "--seed", str(spec["seed"]),
        f"--batch-size={spec['rows_per_step']}", f"--max-new-tokens={spec['new_tokens']}",
        f"--min-new-tokens={spec['new_tokens']}", "--dtype", PRECISIONS[spec["precision"]],
    ]
    process = Finished(command, environment)
    rows = [json.loads(line) for line in process.out.splitlines()]
    return process, {
        "seconds": [json.loads(process.err.splitlines()[-1])["seconds"]],
        "prompt_tokens": sum(len(row["prompt_ids"]) for row in rows),
        "response_tokens": sum(row["length"] for row in rows),
    }
