"""What became of each cell of a call that changes cells: done, in doubt, or not reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from rramhil.device import Cells, DeviceFault

from . import requests, wire
from .link import Down, Exchange, Silent
from .requests import State
from .wire import Frame, Garbled, Nak, Off, Status, Type, Verdict, Why


class Failed(Exception):
    """The board says that it broke off. The text is the board's."""


@dataclass(frozen=True, slots=True)
class Landed:
    """The cells of a call that failed: pulsed, in doubt, and those that nothing reached.

    `maybe`: all that were possibly pulsed, those that were for certain included.
    """

    done: Cells
    doubtful: Cells
    untouched: Cells
    maybe: Cells

    def __str__(self) -> str:
        return (
            f"{self.done.size} cells had been pulsed before, {self.doubtful.size} are in doubt, "
            f"{self.untouched.size} were not reached"
        )


Reader = Callable[[Frame, int], tuple[np.ndarray, str]]
"""From an answer about so many cells to their `Status`, and why it failed ('': it did not)."""


def read_apply(frame: Frame, count: int) -> tuple[np.ndarray, str]:
    """The answer to an APPLY. Raises `Garbled`."""
    reply = wire.ApplyReply.unpack(frame.payload)
    if reply.count != count:
        raise Garbled(f"it speaks of {reply.count} cells, not {count}")
    if not reply.statuses:
        return np.full(count, Status.PULSED), ""
    return np.array(reply.statuses), reply.message or "it does not say why"


def read_program(frame: Frame, count: int) -> tuple[np.ndarray, str]:
    """The answer to a PROGRAM: a cell that it left alone is untouched. Raises `Garbled`."""
    reply = requests.ProgramReply.unpack(frame.payload)
    if len(reply.verdicts) != count:
        raise Garbled(f"it speaks of {len(reply.verdicts)} cells, not {count}")
    statuses = np.full(count, Status.PULSED)
    statuses[reply.verdicts == Verdict.UNTOUCHED] = Status.UNTOUCHED
    statuses[reply.verdicts == Verdict.UNKNOWN] = Status.UNKNOWN
    return statuses, (reply.message or "it does not say why") if reply.failed else ""


@dataclass
class Book:
    """A call in parts: what was answered about each, what is still to do, and what broke it.

    `broken`: the first thing that went wrong; a frame is a NAK.
    """

    cells: Cells
    parts: list[slice]
    read: Reader
    todo: list[int] = field(default_factory=list)
    broken: Silent | Down | Garbled | Failed | DeviceFault | Frame | None = None

    def __post_init__(self) -> None:
        self.todo = list(range(len(self.parts)))
        self._statuses = np.full(self.cells.size, Status.UNTOUCHED)
        self._answers: dict[int, Frame] = {}

    def enter(self, found: Exchange, head: int) -> None:
        """What came of asking about `todo`; the first `head` answers are not about cells."""
        for answer in found.answers[:head]:
            if answer is not None and answer.type == Type.NAK:
                self._break(answer)
        again: list[int] = []
        asked = zip(self.todo, found.answers[head:], found.sent[head:], strict=True)
        for index, answer, sent in asked:
            if answer is None:
                self._unanswered(index, sent, again)
            elif answer.type == Type.NAK:
                if _unarmed(answer):
                    again.append(index)
                else:
                    self._break(answer)
            else:
                self._enter_answer(index, answer)
        if found.error:
            self._break(found.error)
        self.todo = again

    def _unanswered(self, index: int, sent: bool, again: list[int]) -> None:
        if sent:
            self._statuses[self.parts[index]] = Status.UNKNOWN
        else:
            again.append(index)

    def _enter_answer(self, index: int, answer: Frame) -> None:
        part = self.parts[index]
        try:
            statuses, why = self.read(answer, part.stop - part.start)
        except Garbled as error:
            self._statuses[part] = Status.UNKNOWN
            self._break(error)
            return
        self._statuses[part] = statuses
        self._answers[index] = answer
        if why:
            self._break(Failed(why))

    def _break(self, what: Silent | Down | Garbled | Failed | Frame) -> None:
        """Keep the first cause; a fault that the board explains outranks its echoes."""
        explained = isinstance(what, (Failed, Garbled)) and isinstance(self.broken, Frame)
        if self.broken is None or explained:
            self.broken = what

    def answers(self) -> list[Frame]:
        """The answers, in the order of the parts."""
        return [self._answers[index] for index in sorted(self._answers)]

    def landed(self) -> Landed:
        """Every cell of the call, by what is known of it."""
        done, untouched = self._statuses == Status.PULSED, self._statuses == Status.UNTOUCHED
        return Landed(
            done=self.cells[done],
            doubtful=self.cells[~done & ~untouched],
            untouched=self.cells[untouched],
            maybe=self.cells[~untouched],
        )


def _unarmed(answer: Frame) -> bool:
    try:
        return Nak.unpack(answer.payload).why == Why.UNARMED
    except Garbled:
        return False


_WHY: dict[int, str] = {
    Off.START: "since the board started",
    Off.HOST: "since the host put them off",
    Off.LEASE: "since the lease ran out",
    Off.ABORT: "since an ABORT",
    Off.FAULT: "since a fault",
    Off.HELLO: "since the session was opened",
}


def in_words(state: State) -> str:
    """The state of a board as people say it."""
    outputs = wire.Outputs(state.outputs).name.lower()
    why = _WHY.get(state.why, f"for reason {state.why}") if state.outputs == 0 else "now"
    text = f"outputs {outputs} {why}, {state.since_ms} ms ago"
    if state.type in list(Type):
        text += f"; {Type(state.type).name} {state.seq} was under way, {state.cells} cells finished"
    return text
