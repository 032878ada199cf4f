"""LeNet-5 in integers on MNIST: accuracy on the 10,000 test images, and CPU minutes a training.

`lenet5_1b2b_accuracy`: weights of 1 bit, activations of 2, the mean of three seeds of the
training; the others for comparison, one seed each. The epoch is chosen on 5,000 validation
images. With `--keep FOLDER` a network that is there is not trained again. `--dies`: the seeds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benches import Row
from benches.dies import Scale, mean_row

SEEDS, EPOCHS = 3, 7
OTHERS = (("ternary", 2), ("2", 2), ("4", 4))
QUICK = ["--network", "digits", "--data", "digits", "--batch", "50"]
COMMAND = "import sys; from rramhil.cli import main; sys.argv[0] = 'rramhil'; main()"


def rows(seed: int, quick: bool, scale: Scale) -> Iterator[Row]:
    """All rows; when `quick`, of a small network on digits and one seed."""
    seeds = scale.dies or (1 if quick else SEEDS)
    plan = [("1", 2, seed + number) for number in range(seeds)]
    plan += [(weights, bits, seed) for weights, bits in OTHERS]
    with tempfile.TemporaryDirectory() as passing:
        keep = scale.keep or Path(passing)
        keep.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(scale.workers) as pool:
            found = pool.map(lambda case: _trained(*case, quick, keep), plan)
            name = "digits" if quick else "lenet5"
            yield from _binary(f"{name}_1b2b", list(islice(found, seeds)))
            for (weights, bits), each in zip(OTHERS, found, strict=True):
                label = weights if weights == "ternary" else f"{weights}b"
                yield Row(f"{name}_{label}_{bits}b_accuracy", _percent(each), "percent")


def _binary(name: str, found: list[dict[str, Any]]) -> Iterator[Row]:
    """Over seeds: accuracy on test and validation, the worst seed, the price of a training."""
    for key, end in (("test", "accuracy"), ("validation", "validation")):
        values = [100 * each["accuracy"][f"teacher_{key}"] for each in found]
        yield mean_row(f"{name}_{end}", values, "percent")
    worst = min(map(_percent, found))
    yield Row(f"{name}_accuracy_worst_seed", worst, "percent", None, len(found))
    yield mean_row(f"{name}_cpu_minutes", [e["cpu_seconds"] / 60 for e in found], "minutes")


def _percent(found: dict[str, Any]) -> float:
    return float(np.round(100 * found["accuracy"]["teacher_test"], 4))


def _trained(weights: str, bits: int, seed: int, quick: bool, keep: Path) -> dict[str, Any]:
    """What `rramhil train --json` says of one training, from `keep` where it was carried out."""
    start = "digits" if quick else "lenet5"
    out = keep / f"{start}-{weights}w{bits}b-{seed}.safetensors"
    told = out.with_suffix(".json")
    if not told.exists():
        own = QUICK if quick else ["--epochs", str(EPOCHS)]
        words = ["train", *own, "--weights", weights, "--activation-bits", str(bits)]
        words += ["--seed", str(seed), "--out", str(out), "--json", "--quiet"]
        words += ["--resume"] if Path(f"{out}.checkpoint").exists() else []
        began = time.time()
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"rramhil {' '.join(words)}: {done.stderr.strip()}")
        found = json.loads(done.stdout) | {"wall_seconds": round(time.time() - began)}
        told.write_text(json.dumps(found), "utf-8")
    result: dict[str, Any] = json.loads(told.read_text("utf-8"))
    return result
