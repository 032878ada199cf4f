"""What a bad line does to the bytes of one direction: a frame goes in, pieces come out.

Frames never overtake each other, as on a wire: a late frame is late, and all behind it wait.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from random import Random

FAULTS: Mapping[str, float] = {
    "lose": 0.0015,
    "flip": 0.003,
    "burst": 0.001,
    "cut": 0.0015,
    "insert": 0.004,
    "noise": 0.0005,
    "double": 0.003,
    "again": 0.003,
    "late": 0.001,
    "unplug": 0.0005,
    "split": 0.05,
}
"""Share of the frames to which each thing happens."""

NO_FAULTS: Mapping[str, float] = {}

REMEMBERED = 80
"""Frames that can come again: more than the 64 whose results a board keeps."""


class Unplugged(Exception):
    """The cable is out; `args[0]` are the bytes that were through before."""


class Damage:
    """The faults of one direction, drawn from `seed` with the shares of `rates`.

    `happened` counts them. `history` is what may come again; whoever knows when a session
    begins clears it (a frame of the session before would have to overtake this one's HELLO).
    """

    def __init__(self, rates: Mapping[str, float], seed: str) -> None:
        self.happened: Counter[str] = Counter()
        self.history: deque[bytes] = deque(maxlen=REMEMBERED)
        self._random = Random(seed)
        self._held = b""
        self._clean = False
        self._names = list(rates)
        self._ends = []
        total = 0.0
        for rate in rates.values():
            total += rate
            self._ends.append(total)

    def clean(self, clean: bool) -> None:
        """Let what comes pass as it is, or stop to."""
        self._clean = clean

    def forget(self) -> None:
        """Lose what is late, as when the cable is out."""
        self._held = b""

    def hold_back(self) -> bytes:
        """What is late comes now."""
        held, self._held = self._held, b""
        return held

    def suffer(self, frame: bytes) -> list[bytes]:
        """`frame`, its zero bytes included, as it comes out: pieces. Raises `Unplugged`."""
        drawn = 1.0 if self._clean else self._random.random()
        late = self.hold_back()
        before = [late] if late else []
        self.history.append(frame)
        if not self._ends or drawn >= self._ends[-1]:
            return [*before, frame]
        name = next(n for n, end in zip(self._names, self._ends, strict=True) if drawn < end)
        self.happened[name] += 1
        return [*before, *getattr(self, "_" + name)(frame)]

    # Each takes a frame of at least two bytes and returns pieces.

    def _lose(self, frame: bytes) -> list[bytes]:
        return []

    def _flip(self, frame: bytes) -> list[bytes]:
        bent = bytearray(frame)
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            bent[self._random.randrange(len(bent))] ^= 1 << self._random.randrange(8)
        return [bytes(bent)]

    def _burst(self, frame: bytes) -> list[bytes]:
        start, end = self._part(frame)
        return [frame[:start] + self._random.randbytes(end - start) + frame[end:]]

    def _cut(self, frame: bytes) -> list[bytes]:
        start, end = self._part(frame)
        return [frame[:start] + frame[end:]]

    def _insert(self, frame: bytes) -> list[bytes]:
        at = self._random.randrange(len(frame) + 1)
        zeros = self._random.random() < 0.3
        count = self._random.randint(1, 8)
        extra = bytes(count) if zeros else self._random.randbytes(count)
        return [frame[:at] + extra + frame[at:]]

    def _noise(self, frame: bytes) -> list[bytes]:
        """A stretch of bytes in front, at times longer than any frame and without a zero."""
        stretch = self._random.randbytes(self._random.choice((3, 300, 3000)))
        return [stretch.replace(b"\0", b"\1"), frame]

    def _double(self, frame: bytes) -> list[bytes]:
        return [frame, frame]

    def _again(self, frame: bytes) -> list[bytes]:
        return [frame, self._random.choice(self.history)]

    def _late(self, frame: bytes) -> list[bytes]:
        self._held = frame
        return []

    def _unplug(self, frame: bytes) -> list[bytes]:
        raise Unplugged(frame[: self._random.randrange(len(frame) + 1)])

    def _split(self, frame: bytes) -> list[bytes]:
        first, second = self._part(frame)
        return [piece for piece in (frame[:first], frame[first:second], frame[second:]) if piece]

    def _part(self, frame: bytes) -> tuple[int, int]:
        start = self._random.randrange(len(frame))
        return start, min(len(frame), start + self._random.randint(1, 40))
