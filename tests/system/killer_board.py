"""A virtual board that kills its host: at a pulse frame of a given number, at a given stage.

    python killer_board.py DEVICE [--listen ...]

Each line on its standard input, "PID STAGE NUMBER", is an order: SIGKILL to PID at the
NUMBER-th APPLY frame from now, when it is `received` (the frame is then thrown away: nothing
is pulsed), when it was `pulsed` (the answer has not left), or when it was `replied` to. Once
done it prints one line of JSON. It ends with its standard input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from rramhil_drivers import board, wire
from rramhil_drivers.wire import Frame, Type

STAGES = ("received", "pulsed", "replied")


class Killer(board.Watch):
    def __init__(self) -> None:
        self.orders: list[tuple[int, str, int]] = []
        self._seen: Counter[str] = Counter()

    def take_orders(self) -> None:
        for line in sys.stdin:
            pid, stage, number = line.split()
            self._seen.clear()
            self.orders.append((int(pid), stage, int(number)))
        os.kill(os.getpid(), signal.SIGTERM)

    def received(self, frame: Frame) -> bool:
        return not self._kill("received", frame)

    def answered(self, frame: Frame, answer: Frame) -> None:
        self._kill("pulsed", frame)

    def replied(self, frame: Frame) -> None:
        self._kill("replied", frame)

    def _kill(self, stage: str, frame: Frame) -> bool:
        if frame.type != Type.APPLY:
            return False
        self._seen[stage] += 1
        if not self.orders or self.orders[0][1:] != (stage, self._seen[stage]):
            return False
        pid, _, _ = self.orders.pop(0)
        os.kill(pid, signal.SIGKILL)
        while _runs(pid):
            time.sleep(0.001)
        apply = wire.Apply.unpack(frame.payload)
        told = {"stage": stage, "kind": apply.kind, "cells": apply.cells.tolist()}
        print(json.dumps(told), flush=True)
        return True


def _runs(pid: int) -> bool:
    """Whether a process is neither gone nor a zombie (proc_pid_stat(5), the state)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def main() -> None:
    killer = Killer()
    threading.Thread(target=killer.take_orders, daemon=True).start()
    board.run(sys.argv[1:], killer)


if __name__ == "__main__":
    main()
