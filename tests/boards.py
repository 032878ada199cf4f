"""Virtual boards in a thread of the test, and hosts in front of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rramhil.address import open_device
from rramhil_drivers import board as process
from rramhil_drivers.serial_device import SerialDevice
from rramhil_drivers.virtual_board import Board


@contextmanager
def serving(board: Board, watch: process.Watch | None = None) -> Iterator[str]:
    """`board` behind a socket of its own; gives its URL (without the scheme serial:)."""
    listener = process.listen("127.0.0.1:0")
    ended, end = os.pipe()
    thread = threading.Thread(
        target=process.serve, args=(board, listener), kwargs={"end_with": [ended], "watch": watch}
    )
    thread.start()
    try:
        yield f"socket://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        os.close(end)
        thread.join(10)
        listener.close()
        os.close(ended)
        assert not thread.is_alive()


def host(url: str, timeout: float = 10.0) -> SerialDevice:
    """A host of the board at `url`."""
    device = open_device(f"serial:{url}?timeout={timeout}")
    assert isinstance(device, SerialDevice)
    return device
