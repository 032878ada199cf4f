"""`serial:` a chip on a board that speaks the protocol of `wire`, over any pyserial port.

    rramhil doctor "serial:/dev/ttyUSB0?baud=3000000"
    rramhil doctor serial:socket://127.0.0.1:5000

This module is light: pyserial is imported when a device is opened.
"""

from __future__ import annotations

from rramhil.device import Address, Device, Driver, Refused

DEFAULT_BAUD = 3_000_000
DEFAULT_TIMEOUT = 1.0


def open_board(address: Address) -> Device:
    """Open the board at `address.path`. Raises `Refused` in one sentence."""
    from .serial_device import SerialDevice

    if not address.path:
        raise Refused("serial: names no port; write for example serial:/dev/ttyUSB0")
    baud = _positive(address, "baud", DEFAULT_BAUD)
    if baud != int(baud):
        raise Refused(f"baud={baud:g} (in {address}) is not a whole number of bits per second")
    return SerialDevice(address.path, int(baud), _positive(address, "timeout", DEFAULT_TIMEOUT))


def _positive(address: Address, option: str, default: float) -> float:
    text = address.options.get(option)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise Refused(f"{option}={text} (in {address}) is not a positive number")
    return value


driver = Driver(
    summary="a chip on a board, over a serial line or a socket",
    example="serial:/dev/ttyUSB0?baud=3000000",
    open=open_board,
    options={
        "baud": f"bits per second of the serial line (default {DEFAULT_BAUD}; a socket has none)",
        "timeout": f"seconds of silence after which the link is lost (default {DEFAULT_TIMEOUT:g})",
    },
)
