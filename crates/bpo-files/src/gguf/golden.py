"""Writes golden.json: what the gguf package makes of blocks whose bytes follow a formula, for the test of blocks.rs.

    pip install gguf
    python crates/bpo-files/src/gguf/golden.py > crates/bpo-files/src/gguf/golden.json
"""

import json

import numpy as np
from gguf import GGMLQuantizationType, dequantize
from gguf.constants import GGML_QUANT_SIZES

# Offsets of the scales in half precision, which are set: 0.0721 and -0.0123.
SCALES = {"F32": [], "F16": [0], "BF16": [], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
          "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0]}


def block(name, number):
    size = GGML_QUANT_SIZES[GGMLQuantizationType[name]][1]
    # The high byte of a float stays small, so that it is finite.
    raw = np.array([(73 * i + 41 * number + i * i // 7) % 256 for i in range(2 * size)], dtype=np.uint8)
    if name in ("F32", "BF16"):
        raw[size - 1 :: size] = 63
    for at, value in zip(SCALES[name], (0.0721, -0.0123)):
        for start in (0, size):
            raw[start + at : start + at + 2] = np.array([value], dtype=np.float16).view(np.uint8)
    return raw


golden = {}
for name in SCALES:
    kind = GGMLQuantizationType[name]
    raw = block(name, kind.value)
    data = raw.view({"F32": np.float32, "F16": np.float16}.get(name, np.uint8))
    golden[name] = {"bytes": raw.tobytes().hex(), "values": [float(str(v)) for v in dequantize(data, kind).reshape(-1)]}
print("{" + ",\n".join(f"{json.dumps(name)}: {json.dumps(case)}" for name, case in golden.items()) + "}")
