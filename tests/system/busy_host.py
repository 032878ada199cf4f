"""The host of the abort tests: its main thread is somewhere where no signal handler runs.

    python busy_host.py WORK ADDRESS LEDGER_FOLDER TIMES

As often as asked it connects, says "busy", works until a second Ctrl-C, and says in one line of
JSON when it heard of that (seconds since the epoch) and what the device said.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np

import rramhil
from rramhil.cli.stop import Stop
from rramhil.device import DeviceError, Kind, Pulse

Work = Callable[[rramhil.Device], None]


def training_step() -> Work:
    """One step of a network so wide that a product in it takes about a second on one core."""
    import torch

    torch.set_num_threads(1)
    network = torch.nn.Linear(3000, 3000)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    inputs = torch.randn(3000, 3000)

    def step(_: rramhil.Device) -> None:
        optimizer.zero_grad()
        network(inputs).square().mean().backward()
        optimizer.step()

    return step


def sparse_solve() -> Work:
    """A Poisson equation in a box, the factors of which fill up: over a second in SuperLU."""
    from scipy import sparse
    from scipy.sparse import linalg

    size = 23
    line = sparse.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(size, size))
    one = sparse.eye(size)
    box = sum(
        sparse.kron(sparse.kron(*pair), last)
        for pair, last in (((line, one), one), ((one, line), one), ((one, one), line))
    )
    matrix, right = sparse.csc_matrix(box), np.ones(size**3)
    return lambda _: np.testing.assert_equal(linalg.spsolve(matrix, right).shape, right.shape)


def device_calls() -> Work:
    """Products, pulses and readings, one after the other."""

    def calls(device: rramhil.Device) -> None:
        spec = device.spec
        if spec.mvm is not None:
            device.mvm(0, np.ones((16, spec.rows), np.int64))
        cells = np.arange(spec.size)
        device.apply(Pulse(Kind.SET, cells, 1.0, 1.0, seconds=1e-6))
        device.read(cells)

    return calls


WORKS = {"training step": training_step, "sparse solve": sparse_solve, "device calls": device_calls}


def busy(work: Work, device: rramhil.Device) -> float:
    """Work until interrupted for the second time; when that was heard of here."""
    try:
        while True:
            try:
                work(device)
            except DeviceError:
                time.sleep(0.001)  # its outputs are off; the word of it is on its way
    except KeyboardInterrupt:
        return time.time()


def main() -> None:
    name, address, folder, times = sys.argv[1:]
    work = WORKS[name]()
    for _ in range(int(times)):
        with Stop(lambda _: None), rramhil.connect(address, ledger=folder, run="busy") as device:
            print("busy", flush=True)
            heard = busy(work, device)
            said = device.abort()
        told = {"heard": heard, "off": said.off, "said": said.said, "seconds": said.seconds}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
