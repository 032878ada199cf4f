"""A volatile die comes back from its ledger, exactly, or the reason why not is one sentence."""

import shutil

import numpy as np
import pytest
from fakes import FakeDie, fake_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.address import open_device
from rramhil.device import Kind, LinkLost, Pulse, Refused
from rramhil.journal import Journal
from rramhil.ledger import Ledger, LedgerReader
from rramhil.rebuild import rebuild
from rramhil.station import connect
from rramhil_drivers.emulator.die import EmulatedDie

CELLS = np.arange(10, 30)
CALLS = st.lists(
    st.sampled_from(["read", "set", "reset", "sleep", "save", "refuse"]), min_size=1, max_size=12
)


def die(seed=0, **changes):
    return FakeDie(fake_spec(**{"newborn": False, **changes}), seed=seed)


def run(folder, device, calls):
    with Journal(device, Ledger.open(folder, "fake-0", volatile=True), "r") as journal:
        for n, call in enumerate(calls):
            cells = CELLS[n % 5 :]
            if call == "read":
                journal.read(cells)
            elif call in ("set", "reset"):
                journal.apply(Pulse(Kind(call), cells, 1.0, 2.0, seconds=1e-6))
            elif call == "sleep":
                journal.clock.sleep(0.5)
            elif call == "save":
                journal.checkpoint()
            else:
                with pytest.raises(Refused):
                    journal.apply(Pulse(Kind.SET, cells, 9.0, 2.0, seconds=1e-6))


def same_state(a, b):
    np.testing.assert_array_equal(a.siemens, b.siemens)
    assert a.clock.now() == b.clock.now()
    assert a.rng.bit_generator.state == b.rng.bit_generator.state


@settings(deadline=None, max_examples=25)
@given(CALLS, CALLS)
def test_a_rebuilt_die_is_the_die(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("rebuild")
    original = die()
    run(folder, original, first)
    original.closed.clear()
    run(folder, original, second)
    rebuilt = die()
    with LedgerReader(folder) as reader:
        done = rebuild(rebuilt, reader)
    same_state(original, rebuilt)
    assert (done.state is not None) == ("save" in first + second)
    shutil.rmtree(folder)


def test_a_lost_or_changed_state_falls_back_to_the_one_before(tmp_path):
    original = die()
    run(tmp_path, original, ["set", "save", "read", "set", "save", "read"])
    states = sorted((tmp_path / "states").iterdir(), key=lambda p: int(p.stem))
    for n, break_it in enumerate((lambda p: p.write_bytes(b"x"), lambda p: p.unlink())):
        break_it(states[-1 - n])
        rebuilt = die()
        with LedgerReader(tmp_path) as reader:
            done = rebuild(rebuilt, reader)
        assert done.state == (int(states[0].stem) if n == 0 else None)
        same_state(original, rebuilt)


def test_up_to_a_row(tmp_path):
    run(tmp_path, die(), ["set", "read", "set", "read"])
    half = die()
    with LedgerReader(tmp_path) as reader:
        assert rebuild(half, reader, upto=5).calls == 2
    expected = die()
    expected.apply(Pulse(Kind.SET, CELLS, 1.0, 2.0, seconds=1e-6))
    expected.read(CELLS[1:])
    same_state(half, expected)


def test_only_the_present_life_counts(tmp_path):
    run(tmp_path, die(newborn=True), ["set"] * 5 + ["save"])
    original = die(newborn=True)
    run(tmp_path, original, ["set", "read"])
    rebuilt = die()
    with LedgerReader(tmp_path) as reader:
        assert rebuild(rebuilt, reader).calls == 2
    same_state(original, rebuilt)


def test_an_open_intent_is_not_done_again_and_stays_doubtful(tmp_path):
    device = Journal(die(), Ledger.open(tmp_path, "fake-0", volatile=True), "r")
    device.read(CELLS)
    device.apply(Pulse(Kind.SET, CELLS, 1.0, 2.0, seconds=1e-6))
    shutil.copytree(tmp_path, tmp_path / "left by a kill")
    device.close()
    rebuilt, expected = die(), die()
    with LedgerReader(tmp_path / "left by a kill") as reader:
        assert rebuild(rebuilt, reader).calls == 1
        assert reader.doubtful().tolist() == CELLS.tolist()
    expected.read(CELLS)
    same_state(rebuilt, expected)


def test_after_an_unknown_outcome_the_state_is_saved_once_the_cells_are_read(tmp_path):
    """What the broken call did to the die is in no row; the saved state has it."""
    original = die()

    def landing(pulse):
        original.siemens[pulse.cells[:7]] += 3e-6
        original.landing = None
        raise LinkLost("broke in the middle", pulse.cells)

    original.landing = landing
    with Journal(original, Ledger.open(tmp_path, "fake-0", volatile=True), "r") as device:
        with pytest.raises(LinkLost):
            device.apply(Pulse(Kind.SET, CELLS, 1.0, 2.0, seconds=1e-6))
        device.settle()
        device.read(CELLS)
    rebuilt = die()
    with LedgerReader(tmp_path) as reader:
        rebuild(rebuilt, reader)
    same_state(original, rebuilt)


def test_after_an_interrupted_reading_the_state_is_saved_at_the_next_one(tmp_path, monkeypatch):
    original = die()
    with Journal(original, Ledger.open(tmp_path, "fake-0", volatile=True), "r") as device:
        with monkeypatch.context() as patch:
            patch.setattr("rramhil.journal.encode", interrupt)  # read, but not yet on record
            with pytest.raises(KeyboardInterrupt):
                device.read(CELLS)
        device.read(CELLS)
        device.read(CELLS)
    rebuilt = die()
    with LedgerReader(tmp_path) as reader:
        assert rebuild(rebuilt, reader).calls == 1
    same_state(original, rebuilt)


@pytest.mark.parametrize(
    "then",
    [
        lambda device: device.read(np.arange(100, 120)),
        lambda device: device.read(CELLS[:3]),
        lambda device: device.clock.sleep(1.0),
        lambda device: device.finish("stopped"),
        lambda device: None,
    ],
)
@pytest.mark.parametrize("broken", ["apply", "read", "sleep"])
def test_after_an_interrupt_the_state_is_saved_doubt_or_no_doubt(tmp_path, broken, then):
    """Doubt lives in the rows: the state need not wait for the doubtful cells to be read."""
    original = die()

    def at_once(pulse):
        original.landing = None
        original.siemens[CELLS[:7]] += 3e-6
        raise KeyboardInterrupt

    def drawn(cells):
        del original.read
        original.read(cells)
        raise KeyboardInterrupt

    def slept(seconds):
        del original.clock.sleep
        original.clock.sleep(seconds / 2)
        raise KeyboardInterrupt

    with Journal(original, Ledger.open(tmp_path, "fake-0", volatile=True), "r") as device:
        device.read(CELLS)
        original.landing = at_once if broken == "apply" else None
        if broken == "read":
            original.read = drawn
        if broken == "sleep":
            original.clock.sleep = slept
        calls = {
            "apply": lambda: device.apply(Pulse(Kind.SET, CELLS, 1.0, 2.0, seconds=1e-6)),
            "read": lambda: device.read(CELLS),
            "sleep": lambda: device.clock.sleep(4.0),
        }
        with pytest.raises(KeyboardInterrupt):
            calls[broken]()
        then(device)
        doubtful = device.doubtful.tolist()
    rebuilt = die()
    with LedgerReader(tmp_path) as reader:
        rebuild(rebuilt, reader)
        assert reader.doubtful().tolist() == doubtful
    same_state(original, rebuilt)


def test_a_call_that_breaks_leaves_a_state_too(tmp_path):
    """What a reading that was lost on its way drew from the die is in no row."""
    original = die()

    def lost(cells):
        del original.read
        original.read(cells)
        raise LinkLost("lost on its way")

    with Journal(original, Ledger.open(tmp_path, "fake-0", volatile=True), "r") as device:
        original.read = lost
        with pytest.raises(LinkLost):
            device.read(CELLS)
        device.apply(Pulse(Kind.SET, CELLS, 1.0, 2.0, seconds=1e-6))
        device.read(CELLS)
    rebuilt = die()
    with LedgerReader(tmp_path) as reader:
        rebuild(rebuilt, reader)
    same_state(original, rebuilt)


def test_an_emulated_chip_interrupted_in_a_pulse_is_opened_again(tmp_path, monkeypatch):
    address = f"emulator:40nm?tiles=1&state={tmp_path}"
    pulse = Pulse(Kind.SET, np.arange(64), 2.0, 2.5, seconds=1e-7)
    whole = EmulatedDie.apply

    def cut(chip, pulse):
        whole(chip, pulse)
        raise KeyboardInterrupt

    with connect(address) as device:
        device.apply(pulse)
        with monkeypatch.context() as patch:
            patch.setattr(EmulatedDie, "apply", cut)
            with pytest.raises(KeyboardInterrupt):
                device.apply(pulse)
        device.read(np.arange(100, 120))
        expected = device.freeze()
    rebuilt = open_device(address)
    with LedgerReader(tmp_path) as reader:
        rebuild(rebuilt, reader)
        assert reader.doubtful().tolist() == list(range(64))
    assert rebuilt.freeze() == expected
    with connect(address) as device:
        assert device.doubtful.size == 0
        device.apply(pulse)


def interrupt(*anything):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (lambda: die(seed=1), r"at row 3 .*\(read\) value 0 was .* use the seed, options and vers"),
        (lambda: die(serial="fake-1"), "with serial fake-0, but this one has serial fake-1"),
        (lambda: die(cols=8), "with cols 16, but this one has cols 8"),
        (lambda: die(pulses={}), r"row 4 .*was done then and fails now"),
    ],
)
def test_another_die_is_found_out(tmp_path, other, says):
    run(tmp_path, die(), ["read", "set", "read"])
    with LedgerReader(tmp_path) as reader, pytest.raises(Refused, match=says) as error:
        rebuild(other(), reader)
    assert "\n" not in str(error.value)


def test_nothing_recorded_nothing_to_do(tmp_path):
    Ledger.open(tmp_path, "fake-0").close()
    with LedgerReader(tmp_path) as reader:
        assert rebuild(die(), reader).calls == 0


def test_the_emulated_chip_is_rebuilt(tmp_path):
    address = "emulator:40nm?die=3&seed=5"
    original = open_device(address)
    spec = original.spec
    cells = spec.cells(0, np.arange(8)[:, None], np.arange(32))
    gates = spec.pulses[Kind.SET].gate_volts.snap(np.linspace(1.6, 2.4, cells.size))
    with Journal(original, Ledger.open(tmp_path, spec.serial, volatile=True), "r") as device:
        for n in range(4):
            device.apply(Pulse(Kind.SET, cells, 2.0, gates, seconds=1e-7))
            device.clock.sleep(1.0)
            device.read(cells)
            if n == 1:
                device.checkpoint()
        expected = original.freeze()
    with LedgerReader(tmp_path) as reader:
        rebuilt = open_device(address)
        assert rebuild(rebuilt, reader).calls == 6
        assert rebuilt.freeze() == expected
        shutil.rmtree(tmp_path / "states")
        rebuilt = open_device(address)
        assert rebuild(rebuilt, reader).calls == 12
        assert rebuilt.freeze() == expected
        with pytest.raises(Refused, match=r"cannot be rebuilt: at row .*use the seed"):
            rebuild(open_device("emulator:40nm?die=3&seed=6"), reader)
