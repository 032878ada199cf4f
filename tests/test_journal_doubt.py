"""The doubt equation, whatever fails and whenever the process is cut off:

for each cell and kind  done <= pulses the silicon counted <= done + doubtful.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from fakes import FakeDie, fake_spec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rramhil.device import DeviceFault, Kind, LinkLost, Pulse, Refused
from rramhil.journal import Journal
from rramhil.ledger import Ledger, LedgerReader

CELLS = st.lists(st.integers(0, 24), min_size=1, max_size=8, unique=True)
KINDS = st.sampled_from([Kind.SET, Kind.RESET])
FAILURES = st.sampled_from(["fine", "refused", "partial", "fault", "bug", "interrupt"])


class DoubtMachine(RuleBasedStateMachine):
    """A die that outlives its host: pulses that break at any point, kills, new sessions."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="doubt-"))
        self.lives = 0
        self.plan = ("fine", 0)
        self.die = FakeDie(fake_spec(volatile=False, newborn=False), landing=self.landing)
        self.connect(self.folder / "0")

    def connect(self, folder: Path) -> None:
        self.live = folder
        ledger = Ledger.open(folder, "fake-0")
        ledger._db.execute("PRAGMA synchronous = OFF")
        ledger._closing.set()  # no late commits: the copies below then lose as much as can be
        self.device = Journal(self.die, ledger, f"run-{self.lives}")

    def landing(self, pulse: Pulse) -> None:
        """Break as planned, with the first cells pulsed."""
        failure, landed = self.plan
        self.check_equation(in_flight=pulse.cells)
        if failure == "fine":
            return
        first = pulse.cells[:landed] if failure != "refused" else pulse.cells[:0]
        self.die.counted[pulse.kind][first] += 1
        errors = {
            "refused": Refused("no"),
            "partial": LinkLost("lost", pulse.cells[: max(landed, 1)]),
            "fault": DeviceFault("broken"),
            "bug": ZeroDivisionError(),
            "interrupt": KeyboardInterrupt(),
        }
        raise errors[failure]

    @rule(cells=CELLS, kind=KINDS, failure=FAILURES, landed=st.integers(0, 8))
    def apply(self, cells, kind, failure, landed):
        self.plan = (failure, landed)
        doubtful = self.device.doubtful
        try:
            self.device.apply(Pulse(kind, np.array(cells), 1.0, 2.0, seconds=1e-6))
            assert doubtful.size == 0
            assert failure == "fine"
        except Refused:
            assert doubtful.size or failure == "refused"
        except (LinkLost, DeviceFault, ZeroDivisionError, KeyboardInterrupt):
            assert self.device.doubtful.size

    @rule(cells=CELLS)
    def read(self, cells):
        self.device.read(np.array(cells))

    @precondition(lambda self: self.device.doubtful.size)
    @rule()
    def settle(self):
        self.device.settle()
        assert self.device.doubtful.size == 0
        self.device.ledger.flush()
        with LedgerReader(self.live) as reader:
            assert reader.doubtful().size == 0

    @rule()
    def close_and_reopen(self):
        doubtful = self.device.doubtful
        self.device.close()
        self.die.closed.clear()
        self.lives += 1
        self.connect(self.live)
        assert self.device.doubtful.tolist() == doubtful.tolist()

    @rule()
    def kill_and_reopen(self):
        """What a killed process leaves is what the files hold at that moment."""
        self.lives += 1
        left = self.folder / str(self.lives)
        shutil.copytree(self.live, left)
        before = set(self.device.doubtful.tolist())
        self.device.ledger._db.close()
        self.device.ledger._file_lock.release()
        self.connect(left)
        assert before <= set(self.device.doubtful.tolist())

    @invariant()
    def check_equation(self, in_flight=()):
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.live, copy)
        with LedgerReader(copy) as reader:
            wear, doubtful = reader.wear(), set(reader.doubtful().tolist())
            assert set(in_flight) <= doubtful
        for kind in (Kind.SET, Kind.RESET):
            counted = self.die.counted[kind]
            assert (wear.done[kind] <= counted).all()
            assert (counted <= wear.done[kind] + wear.doubtful[kind]).all()

    def teardown(self):
        self.device.close()
        shutil.rmtree(self.folder)


DoubtMachine.TestCase.settings = settings(deadline=None, max_examples=12, stateful_step_count=12)
test_doubt_equation = DoubtMachine.TestCase
