"""A virtual board: a process of its own around any bare device, behind the board protocol.

    python -m rramhil_drivers.board emulator:40nm --state die.npz
    serial:socket://127.0.0.1:41093          <- printed: the address to give to rramhil

The die in it lives on when the host that uses it dies, as silicon does. One host at a time;
loopback only, for the protocol has no passwords.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from rramhil.address import open_device
from rramhil.device import Refused

from . import wire
from .virtual_board import Board
from .wire import Frame


class Watch:
    """Told of every frame, in this order. Tests override it to interfere."""

    def received(self, frame: Frame) -> bool:
        """A frame arrived; False throws it away unseen, as if the line had swallowed it."""
        return True

    def answered(self, frame: Frame, answer: Frame) -> None:
        """The board did what `frame` asks; `answer` has not left yet."""

    def replied(self, frame: Frame) -> None:
        """The answer to `frame` is on its way."""


def listen(where: str) -> socket.socket:
    """A listening socket on `host:port`, loopback only (port 0: any). Raises `Refused`."""
    host, _, port = where.rpartition(":")
    try:
        if not ipaddress.ip_address(host.strip("[]")).is_loopback:
            raise Refused(f"{host} is no loopback address; the board listens on 127.0.0.1 or ::1")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except (ValueError, OverflowError):
        raise Refused(f"{where} is not host:port; write for example 127.0.0.1:0") from None
    except OSError as error:
        raise Refused(f"cannot listen on {where} ({error}); give another port, or 0") from None


def serve(
    board: Board,
    listener: socket.socket,
    *,
    deadline: float = float("inf"),
    end_with: Sequence[int] = (),
    watch: Watch | None = None,
) -> None:
    """Answer hosts, one after the other, until `deadline` (monotonic seconds).

    `end_with`: file descriptors whose end of file ends the board as well. A second host is
    turned away while the first is connected.
    """
    host: socket.socket | None = None
    receiver = wire.Receiver()
    always: list[socket.socket | int] = [listener, *end_with]
    try:
        while (left := deadline - time.monotonic()) > 0:
            waiting = [*always, host] if host else always
            ready, _, _ = select.select(waiting, [], [], min(left, 3600.0))
            if any(end in ready and not os.read(end, 4096) for end in end_with):
                return
            if host in ready:
                if host and not _talk(board, host, receiver, watch or Watch()):
                    host.close()
                    host = None
            elif listener in ready:
                caller, _ = listener.accept()
                if host:
                    caller.close()
                else:
                    caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    host, receiver = caller, wire.Receiver()
    finally:
        if host:
            host.close()


def _talk(board: Board, host: socket.socket, receiver: wire.Receiver, watch: Watch) -> bool:
    """Answer what has arrived; False when the host is gone."""
    try:
        data = host.recv(65536)
        for frame in receiver.feed(data):
            if watch.received(frame):
                answer = board.answer(frame)
                watch.answered(frame, answer)
                host.sendall(wire.encode(answer))
                watch.replied(frame)
        return bool(data)
    except OSError:
        return False


# --------------------------------------------------------------------------- the process


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
    made.add_argument("--max-seconds", type=float, default=float("inf"), help="end after that long")
    made.add_argument("--until-eof", action="store_true", help="end when standard input ends")
    return made


def run(arguments: Sequence[str], watch: Watch | None = None) -> None:
    """Be a board until told to end. Prints one line: the address of the board."""
    asked = parser().parse_args(arguments)
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
            serve(board, listener, deadline=deadline, end_with=end_with, watch=watch)
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
