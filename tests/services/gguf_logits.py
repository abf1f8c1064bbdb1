"""Compares the log-probs of bpo with llama.cpp's on random models of every architecture and type of tensor that is read.

    python tests/services/gguf_logits.py BPO [ARCHITECTURE ...]

Each model is quantised by llama.cpp. "same file": llama.cpp rounds activations as well, bpo does not. "as bpo": llama.cpp on
the file's values in f32, rounded to f16 first as bpo does: what is left is arithmetic (ggml looks GELU up in a table of f16).
Needs llama-cpp-python, gguf and numpy.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

ARCHITECTURES = ["llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "gpt2", "gptneox"]
# llama_ftype of llama.h.
TYPES = {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q4_0": 2, "Q4_1": 3, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K": 11,
         "Q4_K": 14, "Q5_K": 16, "Q6_K": 18}
HIDDEN, INNER, LAYERS, HEADS, WIDTH, VOCABULARY = 256, 512, 2, 4, 64, 512


def write(path, architecture, rng):
    is_gpt, is_gemma = architecture.startswith("gpt"), architecture.startswith("gemma")
    keys = HEADS if is_gpt or architecture == "phi3" else HEADS // 2
    out = gguf.GGUFWriter(path, architecture)
    out.add_block_count(LAYERS)
    out.add_context_length(256)
    out.add_embedding_length(HIDDEN)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(keys)
    out.add_file_type(0)
    out.add_layer_norm_eps(1e-5) if is_gpt else out.add_layer_norm_rms_eps(1e-6)
    if architecture != "gpt2":
        out.add_rope_freq_base(10000.0)
        out.add_rope_dimension_count(WIDTH // 4 if architecture == "gptneox" else WIDTH)
    if architecture == "gptneox":
        out.add_parallel_residual(True)
    if is_gemma or architecture == "qwen3":
        out.add_key_length(WIDTH)
        out.add_value_length(WIDTH)
    if architecture == "gemma2":
        out.add_attn_logit_softcapping(50.0)
        out.add_final_logit_softcapping(30.0)
    if architecture in ("gemma2", "gemma3"):
        out.add_sliding_window(16)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([chr(0x4E00 + id) for id in range(VOCABULARY)])
    out.add_token_types([1] * VOCABULARY)
    out.add_token_merges(["一 丁"])
    out.add_bos_token_id(0)
    out.add_eos_token_id(1)

    def random(name, *shape, scale=0.06, mean=0.0):
        out.add_tensor(name, (mean + rng.standard_normal(shape) * scale).astype(np.float32))

    def norm(name, width=HIDDEN):
        random(name + ".weight", width, scale=0.1, mean=1.0)
        if is_gpt:
            random(name + ".bias", width)

    def matrix(name, rows, columns, bias=is_gpt):
        random(name + ".weight", rows, columns)
        if bias:
            random(name + ".bias", rows)

    random("token_embd.weight", VOCABULARY, HIDDEN, scale=0.06 if is_gemma else 0.3)
    if architecture == "gpt2":
        random("position_embd.weight", 256, HIDDEN, scale=0.1)
    norm("output_norm")
    if not is_gemma:
        matrix("output", VOCABULARY, HIDDEN, bias=False)
    for layer in range(LAYERS):
        part = f"blk.{layer}."
        norm(part + "attn_norm")
        norm(part + "ffn_norm")
        if is_gpt or architecture == "phi3":
            matrix(part + "attn_qkv", (HEADS + 2 * keys) * WIDTH, HIDDEN)
            matrix(part + "ffn_up", INNER if is_gpt else 2 * INNER, HIDDEN)
        else:
            for name, heads in (("q", HEADS), ("k", keys), ("v", keys)):
                matrix(f"{part}attn_{name}", heads * WIDTH, HIDDEN, bias=architecture == "qwen2")
            matrix(part + "ffn_gate", INNER, HIDDEN)
            matrix(part + "ffn_up", INNER, HIDDEN)
        if architecture in ("qwen3", "gemma3"):
            norm(part + "attn_q_norm", WIDTH)
            norm(part + "attn_k_norm", WIDTH)
        if architecture in ("gemma2", "gemma3"):
            norm(part + "post_attention_norm")
            norm(part + "post_ffw_norm")
        matrix(part + "attn_output", HIDDEN, HEADS * WIDTH)
        matrix(part + "ffn_down", HIDDEN, INNER)
    finish(out)


def finish(out):
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def quantise(path, to, name):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.pure, params.nthread = TYPES[name], True, 1
    number = gguf.GGMLQuantizationType[name].value
    params.output_tensor_type = params.token_embedding_type = number
    if llama_cpp.llama_model_quantize(str(path).encode(), str(to).encode(), params) != 0:
        sys.exit(f"{path}: llama.cpp does not quantise it to {name}")


def as_floats(path, to):
    read = gguf.GGUFReader(path)
    out = gguf.GGUFWriter(to, read.fields["general.architecture"].contents())
    left_out = ("general.architecture", "general.file_type", "general.quantization_version")
    for key, field in read.fields.items():
        if not key.startswith("GGUF.") and key not in left_out:
            out.add_key_value(key, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)
    for tensor in read.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1]).astype(np.float32)
        is_float = tensor.tensor_type == gguf.GGMLQuantizationType.F32
        out.add_tensor(tensor.name, values if is_float else values.astype(np.float16).astype(np.float32))
    finish(out)


def of_llama(path, ids):
    model = llama_cpp.Llama(str(path), n_ctx=128, logits_all=True, verbose=False, type_k=0, type_v=0)
    model.eval(ids)
    logits = np.array(model.scores[: len(ids)], dtype=np.float64)
    logits -= logits.max(-1, keepdims=True)
    logps = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return np.array([logps[at - 1, ids[at]] for at in range(1, len(ids))])


def of_bpo(bpo, path, ids):
    row = json.dumps({"prompt_ids": ids[:1], "response_ids": ids[1:]}) + "\n"
    command = [bpo, "score", "--quiet", "--per-token", "--model", str(path), "--input", "-"]
    done = subprocess.run(command, input=row, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    lists = [value for value in json.loads(done.stdout).values() if isinstance(value, list) and len(value) == len(ids) - 1]
    return np.array(lists[0])


def main():
    bpo, architectures = sys.argv[1], sys.argv[2:] or ARCHITECTURES
    rng = np.random.default_rng(5)
    ids = [int(id) for id in rng.integers(2, VOCABULARY, 48)]
    worst = {name: [0.0, 0.0] for name in TYPES}
    with tempfile.TemporaryDirectory() as folder:
        made, file, floats = (Path(folder) / name for name in ("made.gguf", "file.gguf", "floats.gguf"))
        for architecture in architectures:
            write(made, architecture, rng)
            for name in TYPES:
                quantise(made, file, name)
                as_floats(file, floats)
                ours = of_bpo(bpo, file, ids)
                gaps = [float(np.abs(ours - of_llama(path, ids)).max()) for path in (file, floats)]
                worst[name] = [max(pair) for pair in zip(worst[name], gaps)]
                print(f"{architecture:8} {name:5} same file {gaps[0]:.1e}  as bpo {gaps[1]:.1e}", flush=True)
                # ggml's GELU is a table in half precision.
                is_gelu = architecture.startswith("g")
                if gaps[1] > (3e-3 if is_gelu else 2e-5):
                    sys.exit("these are not the same values")
    print("\nworst difference of a log-prob")
    for name, (same, exact) in worst.items():
        print(f"{name:5} same file {same:.1e}  as bpo {exact:.1e}")


main()
