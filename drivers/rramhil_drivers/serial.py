"""`serial:` a chip on a board that speaks the protocol of `wire`, over any pyserial port.

    rramhil doctor "serial:/dev/ttyUSB0?baud=3000000"
    rramhil doctor serial:socket://127.0.0.1:5000

This module is light: pyserial is imported when a device is opened.
"""

from __future__ import annotations

from pathlib import Path

from rramhil.device import Address, Device, Driver, Refused

DEFAULT_BAUD = 3_000_000
DEFAULT_TIMEOUT = 1.0
DEFAULT_WINDOW = 8


def open_board(address: Address) -> Device:
    """Open the board at `address.path`. Raises `Refused` in one sentence."""
    from .serial_device import SerialDevice

    if not address.path:
        raise Refused("serial: names no port; write for example serial:/dev/ttyUSB0")
    baud = _positive(address, "baud", DEFAULT_BAUD)
    if baud != int(baud):
        raise Refused(f"baud={baud:g} (in {address}) is not a whole number of bits per second")
    window = _positive(address, "window", DEFAULT_WINDOW)
    if window != int(window) or window > 64:
        raise Refused(f"window={window:g} (in {address}) is not a whole number from 1 to 64")
    trace = address.options.get("trace")
    if trace == "":
        raise Refused(f"trace= (in {address}) names no file; write for example trace=link.jsonl")
    return SerialDevice(
        address.path,
        int(baud),
        _positive(address, "timeout", DEFAULT_TIMEOUT),
        window=int(window),
        trace=Path(trace) if trace else None,
    )


def scan() -> list[str]:
    """The addresses of serial ports, each with what answers HELLO there, if anything does.

    Nothing but HELLO is sent, at the default baud. A port that somebody uses is left alone.
    """
    from .scanning import scan_ports

    return scan_ports(DEFAULT_BAUD)


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
        "window": f"requests in flight, at most what the board offers (default {DEFAULT_WINDOW})",
        "trace": "file for every byte of the link, with times, as JSON lines (default: none)",
    },
    scan=scan,
)
