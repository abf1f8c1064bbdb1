"""The losses of bpo-loss against the same expressions in PyTorch: 4,096 pairs, float32, CPU.

    python bench/peer/losses.py [--rounds 200] [--turns 9] [--threads N]

The two take turns, process by process, so that what else the machine does falls on both; each turn gives a median
over its rounds, and the table holds the medians over the turns. Prints a table in Markdown. Needs torch and cargo.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time

from common import Finished, alternate

PAIRS = 4096
BETA, SMOOTHING, TAU = 0.1, 0.1, 0.05


def expressions():
    import torch
    import torch.nn.functional as F

    ls, sig, relu = F.logsigmoid, torch.sigmoid, torch.relu

    def smoothed(x, e=SMOOTHING):
        return -(1 - e) * ls(x) - e * ls(-x)

    def rho(p):
        return (p.c - p.rc) - (p.r - p.rr)

    def ratios(p):
        return p.c - p.rc, p.r - p.rr

    def averaged(p):
        c, r = ratios(p)
        return c / p.lc.clamp(min=1) - r / p.lr.clamp(min=1)

    def exo(p):
        x = BETA * rho(p)
        q = sig(x)
        return q * (ls(x) - math.log(1 - SMOOTHING)) + sig(-x) * (ls(-x) - math.log(SMOOTHING))

    def nca(p):
        c, r = ratios(p)
        a, b = BETA * c, BETA * r
        return -ls(a) - 0.5 * ls(-a) - 0.5 * ls(-b)

    def robust(p):
        x = BETA * rho(p)
        return (-(1 - SMOOTHING) * ls(x) + SMOOTHING * ls(-x)) / (1 - 2 * SMOOTHING)

    def bco(p):
        c, r = ratios(p)
        return -ls(BETA * c) - ls(-BETA * r)

    def sppo(p):
        c, r = ratios(p)
        return (c - 0.5 / BETA) ** 2 + (r + 0.5 / BETA) ** 2

    def aot(p):
        policy, _ = torch.sort(p.c - p.r)
        reference, _ = torch.sort(p.rc - p.rr)
        return smoothed(BETA * (policy - reference))

    def aot_unpaired(p):
        c, r = ratios(p)
        return smoothed(BETA * (torch.sort(c)[0] - torch.sort(r)[0]))

    def apo_zero(p):
        c, r = ratios(p)
        return 1 - sig(BETA * c) + sig(BETA * r)

    def apo_down(p):
        c, r = ratios(p)
        return sig(BETA * c) + 1 - sig(BETA * (c - r))

    def kto(p):
        c, r = ratios(p)
        return torch.cat((1 - sig(BETA * (c - r.mean().clamp(min=0))), 1 - sig(BETA * (c.mean().clamp(min=0) - r))))

    def modulated(scale):
        def loss(p):
            x = BETA * rho(p)
            m = sig(x * scale)
            return -ls(x) * (1 - m) + torch.exp(-x) * m
        return loss

    def lrml_old(p):
        margin = rho(p)
        x, m = BETA * margin, sig(margin)
        return -ls(x) * (1 - m) + torch.exp(-x) * m

    def aql(scale, weight):
        def loss(p):
            margin = rho(p)
            x, z = BETA * margin, scale * margin
            q = 0.5 + 0.01 * (sig(z.mean()) - 0.5)
            w = sig(-weight * (z - q))
            return w * -ls(x) + (1 - w) * relu(1 - x)
        return loss

    def aqfl(scale):
        def loss(p):
            margin = rho(p)
            x, z = BETA * margin, scale * margin
            q = z.std() * sig(-z).mean()
            q = q + 0.05 * (sig(z.mean()) - q)
            w = sig(0.1 * (z - q).abs())
            return w * -ls(x) + (1 - w) * relu(1 - x)
        return loss

    def dbaql(scale):
        def loss(p):
            margin = rho(p)
            x, w = BETA * margin, sig((scale * margin).var())
            return w * -ls(x / 0.9) + (1 - w) * torch.exp(-0.9 * x)
        return loss

    def padll(p):
        margin = rho(p)
        return 0.9 * torch.where(margin < 0, 0.5, 1.0) * -ls(BETA * margin)

    def cell(p):
        x = BETA * rho(p)
        return 0.5 * torch.exp(-x) + 0.5 * -ls(x)

    def pfl(beta):
        def loss(p):
            x = beta * rho(p)
            return torch.where(p.c > p.r, -ls(x) / 2, 2 * relu(1 - x))
        return loss

    def divergence(score):
        def loss(p):
            c, r = ratios(p)
            return -ls(BETA * (score(c) - score(r)))
        return loss

    gpo = {
        "logistic": lambda x: F.softplus(-x),
        "hinge": lambda x: relu(1 - x),
        "squared": lambda x: (x - 1) ** 2,
        "exponential": lambda x: torch.exp(-x),
        "truncated_quadratic": lambda x: relu(1 - x) ** 2,
        "savage": lambda x: 1 / (1 + torch.exp(x)) ** 2,
    }
    losses = {
        "sigmoid": lambda p: smoothed(BETA * rho(p)),
        "hinge": lambda p: relu(1 - BETA * rho(p)),
        "ipo": lambda p: (averaged(p) - 0.5 / BETA) ** 2,
        "sigmoid_norm": lambda p: -ls(BETA * averaged(p)),
        "exo_pair": exo, "nca_pair": nca, "robust": robust, "bco_pair": bco, "sppo_hard": sppo,
        "aot": aot, "aot_unpaired": aot_unpaired, "apo_zero": apo_zero, "apo_down": apo_down, "kto_pair": kto,
        "sft": lambda p: -p.c * (PAIRS / p.lc.sum()),
        "discopop": modulated(1 / TAU), "lrml": modulated(1 / 0.05),
        "lrml_old": lrml_old,
        "aql": aql(BETA / 0.05, 1.0), "aql_old": aql(1.0, BETA),
        "aqfl": aqfl(BETA / 0.05), "aqfl_old": aqfl(1.0), "padll": padll,
        "dbaql": dbaql(BETA / 0.05), "dbaql_old": dbaql(1.0), "cell": cell, "pfl": pfl(BETA), "pfl_old": pfl(1.0),
        "sigmoid, forward_kl": divergence(lambda u: 1 - torch.exp(-u)),
        "sigmoid, js_divergence": divergence(lambda u: 0.6931471805599453 + ls(u)),
        "sigmoid, alpha_divergence": divergence(lambda u: (torch.exp((-0.5 * u).clamp(max=80)) - 1) / -0.5),
    }

    losses.update({f"gpo_{name}": (lambda f: lambda p: f(BETA * rho(p)))(f) for name, f in gpo.items()})
    return losses


class Pairs:
    """The pairs of benches/losses.rs."""

    def __init__(self):
        import torch
        i = torch.arange(PAIRS)
        spread = lambda step: (i * step % PAIRS).float() / PAIRS * 10 - 5 - 60
        self.c, self.r = spread(1021).requires_grad_(), spread(2039).requires_grad_()
        self.rc = torch.full((PAIRS,), -60.0)
        self.rr = self.rc.clone()
        self.lc, self.lr = (i % 29 + 1).float(), (i % 31 + 1).float()


def median(rounds, call):
    for _ in range(rounds // 10):
        call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e6)
    return statistics.median(times)


def measure_torch(rounds, threads):
    import torch
    torch.set_num_threads(threads)
    pairs, medians = Pairs(), {}

    for name, loss in expressions().items():
        def forward():
            return loss(pairs).mean()

        def backward():
            pairs.c.grad = pairs.r.grad = None
            forward().backward()

        medians[name] = [median(rounds, forward), median(rounds, backward)]
    return medians


def build():
    command = ["cargo", "build", "--release", "-p", "bpo-loss", "--bench", "losses", "--message-format=json"]
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == "losses" and message.get("executable"):
            return message["executable"]
    sys.exit("cargo named no executable")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--torch", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.torch:
        print(json.dumps(measure_torch(options.rounds, options.threads)))
        return
    commands = {
        "ours": [build(), "--json", str(options.rounds)],
        "theirs": [
            sys.executable, __file__, "--torch", f"--rounds={options.rounds}", f"--threads={options.threads}"
        ],
    }
    environment = {**os.environ, "RAYON_NUM_THREADS": str(options.threads)}
    turns = {side: [] for side in commands}
    for _, side in alternate(commands, options.turns):
        turns[side].append(json.loads(Finished(commands[side], environment).out))
    print("| loss | forward, bpo-loss | PyTorch | ratio | with backward, bpo-loss | PyTorch | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name in turns["ours"][0]:
        of = lambda side, which: statistics.median(turn[name][which] for turn in turns[side])
        cells = []
        for which in (0, 1):
            left, right = of("ours", which), of("theirs", which)
            cells += [f"{left:.0f} µs", f"{right:.0f} µs", f"{left / right:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
