"""Writes random texts beside llama.cpp's vocabularies, with the ids that llama.cpp gives them.

    python tests/services/random_texts.py FOLDER COUNT

Left out is what llama.cpp does otherwise than the models' own tokenizers, which this project follows: it does not compose
texts (NFC), so all are composed here; in Phi-3 it does not find `</s>`; of DeepSeek's letters it sees U+3000 otherwise.
"""

import random
import sys
import unicodedata
from pathlib import Path

from llama_cpp import Llama

NAMES = ["deepseek-coder", "deepseek-llm", "gpt-2", "llama-bpe", "llama-spm", "mpt", "phi-3", "qwen2", "refact", "starcoder"]
SEPARATOR = "\n__ggml_vocab_test__\n"
WORDS = (
    "the The THE don't I'll we'VE it'S they're Hello world def return import self == != <= -> 1234567 3.14 "
    "http://a.b/c?d=e </b> <|im_end|> <|endoftext|> <|eot_id|> <unk> <|user|> [INST] <0x0A> ▁x über naïve 日本語 한국어 "
    "مرحبا 😀👍🏽 👩‍👩‍👧"
).split(" ")


def letters(*ranges):
    return [chr(code) for first, last in ranges for code in range(first, last)]


SCRIPTS = [
    letters((97, 123), (65, 91)), letters((48, 58)), [" "], list("\n\r\t"), letters((33, 48), (58, 65), (91, 97), (123, 127)),
    list("éèüßñçøÅæœſÉÀǅǈʰªº"), letters((0x300, 0x330)), letters((0x4E00, 0x4F00)), letters((0x3040, 0x3100)),
    letters((0xAC00, 0xAD00)), letters((0x600, 0x6F0)), letters((0x900, 0x970)), letters((0x1F300, 0x1F650)),
    list("\u200d\ufe0f\u200b\u00a0\u2003\u0085\u2028\ufeff"), letters((1, 32)), list("٣४५Ⅷ½²①𝟘"), letters((0xE00, 0xE5C)),
    letters((0x400, 0x480)), letters((0x5D0, 0x5EB)), letters((0x1100, 0x1200)),
    [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cs", "Cn", "Co") and code != 0x3000],
]


def text(rng):
    parts = []
    for _ in range(rng.randint(1, 12)):
        script = rng.choice(SCRIPTS)
        parts.append(rng.choice(WORDS) if rng.random() < 0.35 else "".join(rng.choices(script, k=rng.choice([1, 2, 4, 8]))))
        if rng.random() < 0.4:
            parts.append(rng.choice([" ", "  ", "\n", "\n\n", " \n", "   ", "\t", " \n "]))
    return unicodedata.normalize("NFC", "".join(parts))


def main():
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(7)
    texts = [text(rng) for _ in range(count)]
    for name in NAMES:
        path = folder / f"ggml-vocab-{name}.gguf"
        vocabulary = Llama(str(path), vocab_only=True, verbose=False)
        ids = [vocabulary.tokenize(text.encode(), add_bos=False, special=False) for text in texts]
        path.with_name(path.name + ".random.inp").write_bytes(SEPARATOR.join(texts).encode())
        path.with_name(path.name + ".random.out").write_text("\n".join(" ".join(map(str, row)) for row in ids))


main()
