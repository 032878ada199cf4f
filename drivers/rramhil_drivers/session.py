"""The board's memory of a session: which requests were executed, and what was answered."""

from __future__ import annotations

from dataclasses import dataclass

from .wire import Frame, Nak, Type, Why

REMEMBERED = 64
"""Sequence numbers whose results are kept: a window as against replay in IPsec (RFC 4303)."""

_SEQUENCE = 2**16


@dataclass(frozen=True, slots=True)
class _Result:
    payload: bytes
    answer: Frame


class Session:
    """The results of the newest requests that are executed once, by sequence number."""

    def __init__(self, number: int, seq: int) -> None:
        self.number = number
        self.halted = ""
        self.newest = seq
        self._results: list[_Result | None] = [None] * REMEMBERED

    def advance(self, seq: int) -> None:
        """Note `seq`; a number newer than any before frees the places of those it passes."""
        ahead = (seq - self.newest) % _SEQUENCE
        if 0 < ahead < _SEQUENCE // 2:
            for passed in range(min(ahead, REMEMBERED)):
                self._results[(seq - passed) % REMEMBERED] = None
            self.newest = seq

    def result(self, frame: Frame) -> Frame | None:
        """The answer that `frame` had before, a NAK if it is too old, None if it is new."""
        if (self.newest - frame.seq) % _SEQUENCE >= REMEMBERED:
            return nak(frame, Why.STALE, f"request {frame.seq} is too old to be known")
        known = self._results[frame.seq % REMEMBERED]
        if known is None:
            return None
        if known.payload != frame.payload or known.answer.seq != frame.seq:
            return nak(frame, Why.STALE, f"number {frame.seq} was given to another request")
        return known.answer

    def remember(self, frame: Frame, answer: Frame) -> None:
        """Keep `answer`: the same request gets it again, and is not executed again."""
        self._results[frame.seq % REMEMBERED] = _Result(frame.payload, answer)


def nak(frame: Frame, why: Why, message: str) -> Frame:
    """The answer to a request of which nothing was done."""
    return Frame(Type.NAK, frame.seq, Nak(why, message).pack())
