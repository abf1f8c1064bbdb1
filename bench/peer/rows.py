"""Prompts and pairs to measure on, as JSON lines that both sides read. Runs inside the virtual environment.

    python rows.py prompts|pairs SPEC     SPEC: JSON with model, out, count, seed and optionally file, prompt_tokens,
                                          response_tokens (a range each; rows of a file outside it are passed over)

Without a file the rows are words drawn from the vocabulary. Only such pairs are taken whose prompt and response are
the same tokens apart as together, because one side encodes them apart and the other together.
"""
import gzip
import json
import random
import re
import sys

from transformers import AutoTokenizer

TURN = "\n\nAssistant:"


class Source:
    def __init__(self, spec):
        self.spec, self.random = spec, random.Random(spec["seed"])
        self.tokenizer = AutoTokenizer.from_pretrained(spec["model"])
        words = (self.tokenizer.convert_tokens_to_string([token]) for token in sorted(self.tokenizer.get_vocab()))
        self.words = [word for word in words if re.fullmatch(" [a-z]{3,9}", word)]

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def chat(self, content):
        """A prompt as the model reads it: a user's message where it has a chat template."""
        return [{"role": "user", "content": content}] if self.tokenizer.chat_template else content

    def length(self, prompt):
        if isinstance(prompt, str):
            return len(self.ids(prompt))
        return len(self.ids(self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)))

    def drawn(self, tokens):
        """A text of about so many tokens, one for each word."""
        return "".join(self.random.choice(self.words) for _ in range(tokens))

    def prompts(self):
        if self.spec.get("file"):
            for row in read(self.spec["file"]):
                yield {"prompt": self.chat(question(row))}
        frame = self.length(self.chat(""))
        while True:
            tokens = self.random.randint(*self.spec["prompt_tokens"]) - frame
            yield {"prompt": self.chat(self.drawn(max(tokens, 1)).strip())}

    def pairs(self):
        if self.spec.get("file"):
            yield from pairs_of(list(read(self.spec["file"])))
            return
        while True:
            lengths = [self.random.randint(*self.spec[key]) for key in ("prompt_tokens", *["response_tokens"] * 2)]
            prompt, chosen, rejected = (self.drawn(tokens) for tokens in lengths)
            yield {"prompt": prompt.strip() + TURN, "chosen": chosen, "rejected": rejected}

    def fits(self, row):
        """Within the lengths asked for, and of stable tokens."""
        responses = [row[key] for key in ("chosen", "rejected") if key in row]
        wanted = [("prompt_tokens", self.length(row["prompt"]))]
        wanted += [("response_tokens", len(self.ids(response)) + 1) for response in responses]
        within = all(self.spec[key][0] <= length <= self.spec[key][1] for key, length in wanted if self.spec.get(key))
        stable = (self.ids(row["prompt"]) + self.ids(r) == self.ids(row["prompt"] + r) for r in responses)
        return within and len(set(responses)) == len(responses) and all(stable)


def read(path):
    with gzip.open(path, "rt") if path.endswith(".gz") else open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def question(row):
    prompt = row["prompt"]
    if not isinstance(prompt, str):
        return prompt[-1]["content"]
    return prompt.strip().removesuffix("Assistant:").strip()


def pairs_of(rows):
    """Pairs of a data set with `chosen` and `rejected`, after a `prompt` or as transcripts; where there is only one
    response (`label`), that of the next row stands for the other."""
    for row, other in zip(rows, rows[1:] + rows[:1]):
        if "prompt" in row and "chosen" in row:
            parts = [row["prompt"], row["chosen"], row["rejected"]]
        elif "chosen" in row:
            prompt, _, chosen = row["chosen"].rpartition(TURN)
            before, _, rejected = row["rejected"].rpartition(TURN)
            if before != prompt:
                continue
            parts = [prompt + TURN, chosen, rejected]
        else:
            parts = [row["prompt"], row["label"], other["label"]]
        if all(isinstance(part, str) and part.strip() for part in parts):
            prompt, chosen, rejected = (part.strip() for part in parts)
            # A space belongs to the word behind it.
            yield {"prompt": prompt, "chosen": " " + chosen, "rejected": " " + rejected}


def main():
    kind, spec = sys.argv[1], json.loads(sys.argv[2])
    source, kept = Source(spec), []
    for row in source.prompts() if kind == "prompts" else source.pairs():
        if source.fits(row):
            kept.append(row)
        if len(kept) == spec["count"]:
            break
    else:
        sys.exit(f"{spec['file']}: {len(kept)} rows fit {spec}, {spec['count']} are needed")
    with open(spec["out"], "w", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in kept)


if __name__ == "__main__":
    main()
