#!/usr/bin/env bash
# Rebuilds everything in assets/story from the seed: corpus, tokenizer, prompts, model, pairs.
# Usage: assets/story/build.sh [WORK_DIR]   (default: target/story; the corpus stays there)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
assets=assets/story
work=${1:-target/story}
mkdir -p "$work" "$assets/model"

# The corpus, its tokenizer and the prompts. Statistics go to stderr.
cargo run --release --locked -p bpo-data --example story_corpus -- "$work"
cp "$work"/{tokenizer.json,tokenizer_config.json,prompts.jsonl,eval-prompts.jsonl} "$assets/"

# The model, from random weights.
cargo run --release --locked -p bpo-cli -- sft \
  --recipe "$assets/sft.toml" --run-dir "$work/sft" --set data="$work/corpus.jsonl"

# Half precision: config.json and model.safetensors.
cargo run --release --locked -p bpo-cli -- merge --force \
  --model "$work/sft/model" --dtype f16 --out "$work/model"
cp "$work"/model/{config.json,model.safetensors} "$assets/model/"

# Preferences between the model's own stories, of which the first thousand are kept.
cargo run --release --locked -p bpo-cli -- generate --model embedded --prompts embedded \
  --samples 2 --seed 7 --max-new-tokens 64 --json > "$work/completions.jsonl"
cargo run --release --locked -p bpo-cli -- annotate --responses "$work/completions.jsonl" \
  --annotator lexicon --pairs --output "$work/pairs.jsonl"
head -n 1000 "$work/pairs.jsonl" > "$assets/pairs.jsonl"

# Stories of that model with their lexicon scores, for causal preference optimisation.
cargo run --release --locked -p bpo-cli -- eval --model "$assets/model" --tokenizer "$assets" --prompts "$assets/prompts.jsonl" \
  --against-base --size 800 --max-new-tokens 80 --seed 7 --json \
  | sed -E '/^\{"totals"/d; s/"reference":null,"score":/"outcome":/; s/,"reference_win":null.*/}/' \
  > "$assets/outcomes.jsonl"
