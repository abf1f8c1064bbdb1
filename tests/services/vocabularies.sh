#!/usr/bin/env bash
# Fetches llama.cpp's vocabularies of real models for the tests of GGUF tokenizers, and writes random texts with the ids
# that llama.cpp gives them: see README.md beside it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
folder=${BPO_MODELS:-$HOME/.cache/bpo-models}/vocabularies
llama=${LLAMA_VENV:-$root/target/services/llama}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ ! -x "$llama/bin/python" ]; then
    python3 -m venv "$llama"
    "$llama/bin/pip" install --quiet 'llama-cpp-python[server]'
fi
version=$("$llama/bin/python" -c 'import llama_cpp; print(llama_cpp.__version__)')
"$llama/bin/pip" download --quiet --no-deps --no-binary llama-cpp-python --dest "$work" "llama-cpp-python==$version"
mkdir -p "$folder"
tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$folder" --strip-components=4 --wildcards '*/vendor/llama.cpp/models/ggml-vocab-*'
"$llama/bin/python" "$here/random_texts.py" "$folder" "${TEXTS:-2000}"
echo "llama-cpp-python $version: $(ls "$folder"/*.gguf | wc -l) vocabularies in $folder"
