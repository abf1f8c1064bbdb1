"""Writes oracle.json: length-controlled win rates by scipy, for tests.rs. Needs numpy and scipy.

Here the penalised likelihood itself is maximised, by a method that knows nothing of its derivatives.
"""
import json
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

random = np.random.default_rng(2024)


def rate(wins, differences):
    x = np.tanh(differences / differences.std())
    design = np.stack([np.ones_like(x), x], axis=1)

    def lost(beta):
        z = design @ beta
        p = expit(z)
        information = design.T @ (design * (p * (1 - p))[:, None])
        likelihood = np.sum(wins * log_expit(z) + (1 - wins) * log_expit(-z))
        return -likelihood - 0.5 * np.linalg.slogdet(information)[1]

    best = np.zeros(2)
    for _ in range(5):  # restarts: the simplex of one search may end early
        best = minimize(lost, best, method="Nelder-Mead", options={"xatol": 1e-11, "fatol": 1e-13, "maxiter": 10000}).x
    return expit(best[0])


def case(name, size, win, mean):
    differences = np.round(random.normal(mean, 1.0, size) * 80)
    noise = random.random(size)
    wins = np.array([win(d, u) for d, u in zip(differences, noise)], dtype=float)
    return {
        "name": name,
        "wins": wins.tolist(),
        "differences": differences.tolist(),
        "rate": float(rate(wins, differences)),
    }


cases = [
    case("length has no part", 64, lambda d, u: u < 0.7, 0.0),
    case("longer and no better", 200, lambda d, u: u < expit(d / 40), 0.8),
    case("ties", 40, lambda d, u: 0.5 if u < 0.3 else d > 0, 0.3),
    case("all won", 12, lambda d, u: 1, 0.0),
    case("only length counts", 50, lambda d, u: 1 if d > 0 else 0, 0.5),
]
Path(__file__).with_name("oracle.json").write_text(json.dumps(cases) + "\n")
for done in cases:
    print(done["name"], np.mean(done["wins"]), done["rate"])
