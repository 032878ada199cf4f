"""A virtual board: a process of its own around any bare device, behind the board protocol.

    python -m rramhil_drivers.board emulator:40nm --state die.npz
    serial:socket://127.0.0.1:41093          <- printed: the address to give to rramhil

The die in it lives on when the host that uses it dies, as silicon does. One host at a time;
loopback only, for the protocol has no passwords.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from rramhil.address import open_device
from rramhil.device import Refused

from .serving import Watch as Watch
from .serving import listen as listen
from .serving import serve as serve
from .virtual_board import Board


def load_state(board: Board, path: Path) -> None:
    """Let the die go on from `path`, if it is there. Raises `Refused`."""
    if not path.exists():
        return
    try:
        with np.load(path, allow_pickle=False) as saved:
            board.thaw({name: saved[name] for name in ("serial", "state", "counts")})
    except (OSError, ValueError, KeyError) as error:
        raise Refused(f"{path} is not the state of a board ({error}); name another file") from None


def save_state(board: Board, path: Path) -> None:
    """Write the die to `path`: all of it, or nothing."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez(file, allow_pickle=False, **board.freeze())
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def parser() -> argparse.ArgumentParser:
    """The command line of a board process."""
    made = argparse.ArgumentParser(prog="python -m rramhil_drivers.board", description=__doc__)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("device", help="address of the die, for example emulator:40nm?die=7")
    made.add_argument(
        "--listen", default="127.0.0.1:0", help="loopback host:port (default %(default)s)"
    )
    made.add_argument("--serial", default="", help="serial of the die (default: board-DIE)")
    made.add_argument("--state", type=Path, help="file that keeps the die between runs")
    made.add_argument(
        "--clock", choices=("wall", "own"), default="wall",
        help="the die ages with the wall clock, or only by what is done to it",
    )  # fmt: skip
    made.add_argument(
        "--baud", type=float, default=0.0, help="bytes take their time at so many bits per second"
    )
    made.add_argument("--max-seconds", type=float, default=float("inf"), help="end after that long")
    made.add_argument("--until-eof", action="store_true", help="end when standard input ends")
    return made


def run(arguments: Sequence[str], watch: Watch | None = None) -> None:
    """Be a board until told to end. Prints one line: the address of the board."""
    asked = parser().parse_args(arguments)
    if not 0 <= asked.baud < 1e12:
        raise Refused(f"--baud {asked.baud:g} is no rate; give bits per second, 0 for no pacing")
    terminated, terminate = os.pipe()

    def end(*_: object) -> None:
        with suppress(OSError):  # told twice
            os.close(terminate)

    signal.signal(signal.SIGTERM, end)
    with open_device(asked.device) as device, listen(asked.listen) as listener:
        if device.spec.volatile and not device.spec.newborn:
            raise Refused(
                f"the past of {device.spec.serial} is in a ledger, which a board does not read; "
                "leave its state option out and give the board --state FILE"
            )
        board = Board(device, serial=asked.serial, follow_wall_clock=asked.clock == "wall")
        if asked.state:
            board.freeze()  # a die that cannot be kept is refused now, not when it is lost
            load_state(board, asked.state)
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"serial:socket://{shown}:{port}", flush=True)
        end_with = [terminated, sys.stdin.fileno()] if asked.until_eof else [terminated]
        try:
            deadline = time.monotonic() + asked.max_seconds
            serve(
                board, listener, deadline=deadline, end_with=end_with, watch=watch, baud=asked.baud
            )
        finally:
            if asked.state:
                save_state(board, asked.state)


def main() -> None:
    """The board process as a command."""
    try:
        run(sys.argv[1:])
    except Refused as error:
        sys.exit(f"board: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
