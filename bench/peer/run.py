"""bpo against TRL and transformers on the same machine, model, rows and threads; prints tables in Markdown.

    python3 bench/peer/run.py --model DIR [--only online,dpo-helpful,dpo-tldr,sampling,growth] [--turns 3]
                              [--prompts FILE] [--pairs FILE] [--out rows.jsonl]

Makes a virtual environment with the pinned versions of requirements.txt (or takes --venv), builds bpo (or takes
--bpo), and measures in turns, process by process: peer, ours, peer, ours, so that what else the machine does falls on
all alike. The raw rows are appended to --out. Without files the rows are synthetic texts of the named lengths.

Measurements
  online        8 prompts x 2 samples x exactly 64 new tokens, judged by length, one update
  dpo-helpful   4 given pairs, prompts of 40 to 80 tokens, responses of 60 to 128
  dpo-tldr      4 given pairs, prompts of 350 to 450 tokens, responses of 40 to 96
  dpo           4 given pairs of --pairs, of whatever length
  sampling      tokens sampled per second by 1, 8 and 32 rows at once, 128 new tokens each
  growth        the online step, ours alone, with 8 to 64 prompts

A process during which others had more than --others of the cores is repeated, at most twice, since a thread that
waits for another one's core costs more than its share. The least disturbed one counts; all are kept in --out.
A ratio is printed only if both sides trained, or sampled, the same numbers of tokens and trained as many parameters.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import ours
from common import Finished, alternate, wait_for_quiet

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
#: The fastest way of TRL and transformers at each precision, of those in VARIANTS: found by --trial.
BEST = {"f32": "f32", "bf16": "bf16-mixed"}
VARIANTS = ("f32", "bf16-autocast", "bf16-mixed", "bf16-pure")
PROMPT = {"prompt_tokens": [50, 70]}
SHAPES = {
    "dpo-helpful": {"prompt_tokens": [40, 80], "response_tokens": [60, 128]},
    "dpo-tldr": {"prompt_tokens": [350, 450], "response_tokens": [40, 96]},
    "dpo": {},
}
DEFAULT = "online,dpo-helpful,dpo-tldr,sampling,growth"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory of a causal model")
    parser.add_argument("--prompts", help="JSON lines with `prompt`, gzipped or not")
    parser.add_argument("--pairs", help="JSON lines of a preference data set, gzipped or not")
    parser.add_argument("--only", default=DEFAULT, help="measurements, with commas")
    parser.add_argument("--dtype", default="f32,bf16", help="precisions; a side without one is not measured in it")
    parser.add_argument("--turns", "--rounds", type=int, default=3, help="processes of each side")
    parser.add_argument("--steps", type=int, default=3, help="steps of a process that count; one before them does not")
    parser.add_argument("--online-prompts", type=int, default=8, help="prompts of an online step")
    parser.add_argument("--new-tokens", type=int, default=64, help="new tokens of a completion in an online step")
    parser.add_argument("--dpo-pairs", type=int, default=4, help="pairs of a DPO step")
    parser.add_argument("--sampled-rows", default="1,8,32", help="rows sampled at once")
    parser.add_argument("--sampled-tokens", type=int, default=128, help="new tokens of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--others", type=float, default=0.05, help="share of the cores that others may have")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", help="bpo's --device")
    parser.add_argument("--bpo", help="the program; built unless given")
    parser.add_argument("--venv", type=Path, help="virtual environment; made under target/ unless given")
    parser.add_argument("--trial", action="store_true", help="only try the peer's ways of doing it, one step each")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "rows.jsonl")
    return parser.parse_args()


def environment_of(venv):
    """The interpreter of the virtual environment, made if need be."""
    if venv is None:
        venv = ROOT / "target" / "peer-venv"
        if not (venv / "installed").exists():
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
            pip = [venv / "bin" / "pip", "install", "--no-deps", "-r", HERE / "requirements.txt"]
            subprocess.run(pip, check=True, stdout=sys.stderr)
            (venv / "installed").touch()
    return venv / "bin" / "python"


def build(program):
    if program:
        return program
    subprocess.run(["cargo", "build", "--release", "--locked", "-p", "bpo-cli"], cwd=ROOT, check=True)
    return ROOT / "target" / "release" / "bpo"


def machine(options):
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    revision = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "cpu": cpu, "cores": os.cpu_count(), "threads": options.threads, "revision": revision.stdout.strip(),
        "when": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }


class Workload:
    """One measurement: its rows, and what both sides are told of it."""

    def __init__(self, name, kind, rows_per_step, new_tokens=0, steps=0, batches=1):
        self.name, self.kind, self.rows_per_step, self.new_tokens = name, kind, rows_per_step, new_tokens
        #: Of a process, the first of which does not count.
        self.steps = steps + 1
        self.rows = rows_per_step * batches
        self.unit = "tokens" if kind == "sampling" else "pairs"

    def rate(self, result):
        """Pairs per second of the median step after the first; tokens per second of all calls."""
        if self.kind == "sampling":
            return result["response_tokens"] / sum(result["seconds"])
        return self.rows_per_step / statistics.median(result["seconds"][1:])


def workloads(options):
    for name in options.only.split(","):
        if name == "online":
            yield Workload(name, "online", options.online_prompts, options.new_tokens, options.steps)
        elif name in SHAPES:
            yield Workload(name, "dpo", options.dpo_pairs, steps=options.steps)
        elif name == "sampling":
            for rows in map(int, options.sampled_rows.split(",")):
                yield Workload(f"sampling, {rows}", "sampling", rows, options.sampled_tokens, batches=max(2, 4 // rows))
        elif name == "growth":
            for prompts in (8, 16, 32, 64):
                yield Workload(f"growth, {prompts}", "online", prompts, options.new_tokens, steps=1)
        else:
            sys.exit(f"--only {name}: no such measurement; there are {DEFAULT},dpo")


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, Path(folder)
        self.python, self.machine = environment_of(options.venv), machine(options)
        self.bpo = [build(options.bpo), *(["--device", options.device] if options.device else [])]
        threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}
        offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRL_EXPERIMENTAL_SILENCE": "1"}
        self.environment = {**os.environ, **threads, **offline, "CUDA_VISIBLE_DEVICES": ""}

    def rows(self, workload, turn):
        """The file of a turn's rows: every step of a process is on all of them, every turn on others."""
        is_dpo = workload.kind == "dpo"
        shape, file = (SHAPES[workload.name], self.options.pairs) if is_dpo else (PROMPT, self.options.prompts)
        if is_dpo and not shape and not file:
            sys.exit("--only dpo needs --pairs")
        path = self.folder / f"{workload.name}-{turn}.jsonl"
        if not path.exists():
            every = self.folder / f"{workload.name}.jsonl"
            spec = {
                "model": self.options.model, "out": str(every), "count": workload.rows * self.options.turns,
                "seed": self.options.seed, "file": file, **(shape if is_dpo or not file else {}),
            }
            kind = "pairs" if is_dpo else "prompts"
            Finished([self.python, HERE / "rows.py", kind, json.dumps(spec)], self.environment)
            lines = every.read_text().splitlines(keepends=True)
            for index in range(self.options.turns):
                part = lines[index * workload.rows : (index + 1) * workload.rows]
                (self.folder / f"{workload.name}-{index}.jsonl").write_text("".join(part))
        return str(path)

    def measure(self, workload, side, turn=0, **changes):
        """The least disturbed of up to three processes."""
        rows = []
        for _ in range(3):
            wait_for_quiet(self.options.others)
            rows.append(self.process(workload, side, turn, changes))
            if rows[-1]["others"] <= self.options.others:
                break
        return min(rows, key=lambda row: row["others"])

    def process(self, workload, side, turn, changes):
        """One process; its row goes to --out."""
        program, precision = side
        spec = {
            "model": self.options.model, "rows": self.rows(workload, turn), "rows_per_step": workload.rows_per_step,
            "new_tokens": workload.new_tokens, "steps": workload.steps, "seed": self.options.seed,
            "threads": self.options.threads, "micro_batch": 8, "precision": BEST.get(precision, precision),
            "gradient_checkpointing": False, "precompute_ref_log_probs": False, "cache": None, **changes,
        }
        if program == "bpo":
            process, result = getattr(ours, workload.kind)(self.bpo, {**spec, "precision": precision}, self.environment)
        else:
            process = Finished([self.python, HERE / "theirs.py", workload.kind, json.dumps(spec)], self.environment)
            result = json.loads(process.out.splitlines()[-1])
        row = {
            "workload": workload.name, "side": program, "precision": precision, "turn": turn, "changes": changes,
            "rate": workload.rate(result), "unit": f"{workload.unit}/s", **result,
            "peak_rss_mib": round(process.peak_rss_mib), "wall_s": round(process.wall_s, 1),
            "others": round(process.others, 3), **self.machine,
        }
        self.options.out.parent.mkdir(parents=True, exist_ok=True)
        with open(self.options.out, "a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        told = f"{row['rate']:.3g} {row['unit']}, others {row['others']:.0%}"
        print(f"{workload.name}: {program} {precision} {told}", changes or "", file=sys.stderr)
        return row

    def compare(self, workload):
        """Rows of all sides, by side."""
        wanted = self.options.dtype.split(",")
        theirs = [] if workload.name.startswith("growth") else [("trl", precision) for precision in wanted]
        sides = theirs + [("bpo", precision) for precision in wanted if precision in ours.PRECISIONS]
        rows = {side: [] for side in sides}
        for turn, side in alternate(sides, self.options.turns):
            rows[side].append(self.measure(workload, side, turn))
        for turn in zip(*rows.values()):
            check(workload, turn)
        return rows

    def trial(self, workload):
        """The peer's ways of doing it; what saves memory or work elsewhere, in f32."""
        ways = {
            "online": [{"gradient_checkpointing": True}],
            "dpo": [{"gradient_checkpointing": True}, {"precompute_ref_log_probs": True}],
            "sampling": [{"cache": "static"}],
        }
        for precision in VARIANTS:
            for changes in [{}, *(ways[workload.kind] if precision == "f32" else [])]:
                self.measure(workload, ("trl", precision), steps=2, precision=precision, **changes)


def check(workload, rows):
    """All sides did the same."""
    for key in ("prompt_tokens", "response_tokens", "trainable"):
        found = {f"{row['side']} {row['precision']}": row.get(key) for row in rows}
        if len(set(found.values())) > 1:
            sys.exit(f"{workload.name}: no ratio, since {key} differ: {found}")


def middle(rows, key):
    return statistics.median(row[key] for row in rows)


def table(results):
    print("| | tokens of a step, prompts + responses | | rate | range | peak RSS | rate, ours/theirs | RSS | others |")
    print("|---|---|---|---|---|---|---|---|---|")
    for workload, sides in results:
        theirs = {side: rows for side, rows in sides.items() if side[0] == "trl"}
        for (program, precision), rows in sides.items():
            rates = [row["rate"] for row in rows]
            tokens = f"{middle(rows, 'prompt_tokens'):.0f} + {middle(rows, 'response_tokens'):.0f}"
            ratios = ["", ""]
            if program == "bpo" and theirs:
                against = lambda key: " / ".join(f"{middle(rows, key) / middle(t, key):.2f}" for t in theirs.values())
                ratios = [against("rate"), against("peak_rss_mib")]
            cells = [
                workload.name, tokens, f"{program} {precision}", f"{middle(rows, 'rate'):.3g} {rows[0]['unit']}",
                f"{min(rates):.3g}–{max(rates):.3g}", f"{middle(rows, 'peak_rss_mib') / 1024:.1f} GiB", *ratios,
                f"{max(row['others'] for row in rows):.0%}",
            ]
            print(f"| {' | '.join(cells)} |")


def main():
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, folder)
        results = []
        for workload in workloads(options):
            if options.trial:
                bench.trial(workload)
            else:
                results.append((workload, bench.compare(workload)))
    if results:
        table(results)
        print(f"\nRatios: against {' / '.join(options.dtype.split(','))} of the peer. {json.dumps(bench.machine)}")


if __name__ == "__main__":
    main()
