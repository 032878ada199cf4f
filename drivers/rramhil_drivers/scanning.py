"""Which serial ports there are, and what answers HELLO on them."""

from __future__ import annotations

import secrets

from serial.tools import list_ports

from rramhil.device import Refused

from . import greeting
from .link import Down, Link

ANSWER_SECONDS = 0.2


def scan_ports(baud: int) -> list[str]:
    """One line for each port: its address, and in brackets what is there."""
    return [describe(port.device, baud) for port in sorted(list_ports.comports())]


def describe(port: str, baud: int) -> str:
    """`serial:PORT`, and in brackets who answers HELLO there within a fifth of a second."""
    try:
        link = Link(port, baud, ANSWER_SECONDS)
    except Down as error:
        return f"serial:{port} (cannot be opened: {error})"
    try:
        found = greeting.ask(link, port, baud, ANSWER_SECONDS, secrets.randbits(32))
    except Refused as reason:
        return f"serial:{port} ({reason})"
    finally:
        link.close()
    spec, firmware = found.spec, found.firmware
    return f"serial:{port} ({spec.model}, serial {spec.serial}, firmware {firmware or 'unknown'})"
