"""Opening a board: HELLO until it answers, outputs off, and why it cannot be used if not."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rramhil.device import Refused, Spec

from . import requests, scales, wire
from .link import Down, Link, Question, Silent
from .wire import Frame, Nak, Type, Why

ATTEMPTS = 3
BUSY_SECONDS = 0.5
"""How long another host's lease is waited for; it is renewed as long as that host lives."""

_BUSY_PAUSE = 0.05
_SHORTEST_LEASE_MS = 20


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a board says of itself. `sum_bits`: of the sums of a product, 0 without product."""

    spec: Spec
    firmware: str
    window: int
    cells: int
    lease_ms: int
    sum_bits: int
    joins: bool
    own_clock: bool


def greet(link: Link, url: str, baud: int, timeout: float, session: int) -> Greeting:
    """Open `session` on the board behind `link`. Raises `Refused` in one sentence.

    What an earlier host left on the line is thrown away first. When this returns the board
    has said that its outputs are off.
    """
    greeting = ask(link, url, baud, timeout, session)
    try:
        _check_off(link, url, timeout)
    except (Silent, Down, wire.Garbled) as error:
        raise Refused(
            f"the board at {url} does not say that its outputs are off ({error}); switch its "
            "supply off and check its firmware"
        ) from None
    return greeting


def ask(link: Link, url: str, baud: int, timeout: float, session: int) -> Greeting:
    """HELLO and nothing else. Raises `Refused` in one sentence."""
    try:
        link.drain()
        return _understand(_hello(link, session), url, session)
    except Silent as error:
        raise Refused(_why_silent(link, url, baud, timeout, error)) from None
    except Down as error:
        raise Refused(
            f"no board answers at {url} ({error}); check its power, the cable and baud={baud}"
        ) from None
    except wire.Garbled as error:
        raise Refused(
            f"the board at {url} answers HELLO with nonsense ({error}); check its firmware"
        ) from None


def _hello(link: Link, session: int) -> Frame:
    """The answer to HELLO; another host's lease is waited for."""
    question = Question(Type.HELLO, wire.Hello(session).pack)
    until = time.monotonic() + BUSY_SECONDS
    while True:
        found = link.exchange([question], window=1, attempts=ATTEMPTS)
        (answer,) = found.answers
        if answer is None:
            raise found.error or Silent("it does not answer")
        if not _busy(answer) or time.monotonic() > until:
            return answer
        time.sleep(_BUSY_PAUSE)


def _busy(answer: Frame) -> bool:
    return answer.type == Type.NAK and Nak.unpack(answer.payload).why == Why.BUSY


def _understand(frame: Frame, url: str, session: int) -> Greeting:
    if frame.type == Type.NAK and _busy(frame):
        said = Nak.unpack(frame.payload).message
        raise Refused(f"another host uses the board at {url} ({said}); end it first")
    if frame.type == Type.NAK:
        said = Nak.unpack(frame.payload).message
        raise Refused(f"the board at {url} refuses to talk ({said}); update the older of the two")
    if frame.version != wire.VERSION:
        raise Refused(
            f"the board at {url} speaks protocol version {frame.version}, this driver "
            f"{wire.VERSION}; update the older of the two"
        )
    reply = wire.HelloReply.unpack(frame.payload)
    if reply.schema != wire.SCHEMA:
        raise Refused(
            f"the board at {url} describes itself in schema {reply.schema}, this driver knows "
            f"{wire.SCHEMA}; update the older of the two"
        )
    if reply.session != session or not 1 <= reply.cells <= wire.MAX_CELLS:
        raise wire.Garbled("it answers another HELLO")
    if reply.window < 1 or reply.lease_ms < _SHORTEST_LEASE_MS:
        raise wire.Garbled(f"a window of {reply.window}, a lease of {reply.lease_ms} ms")
    spec, firmware = scales.unpack_spec(reply)
    return Greeting(
        spec,
        firmware,
        window=reply.window,
        cells=reply.cells,
        lease_ms=reply.lease_ms,
        sum_bits=scales.sum_bits(reply),
        joins=bool(reply.flags & scales.JOINS),
        own_clock=bool(reply.flags & scales.OWN_CLOCK),
    )


def _check_off(link: Link, url: str, timeout: float) -> None:
    for attempt in range(ATTEMPTS):
        try:
            state = requests.State.unpack(link.urgent(Type.STATUS, timeout).payload)
            break
        except Silent:
            if attempt == ATTEMPTS - 1:
                raise
    if state.outputs != wire.Outputs.OFF:
        raise Refused(
            f"the outputs of the board at {url} are not off after HELLO; switch its supply off "
            "and check its firmware"
        )


def _why_silent(link: Link, url: str, baud: int, timeout: float, error: Silent) -> str:
    if link.late:
        return (
            f"the board at {url} answers later than timeout={timeout:g} s; give a longer timeout= "
            "in the address"
        )
    if link.garbled or link.received:
        return (
            f"what arrives from {url} is garbage ({link.received} bytes, no frame); check "
            f"baud={baud}, and that it is a board that speaks this protocol"
        )
    return f"no board answers at {url} ({error}); check its power, the cable and baud={baud}"
