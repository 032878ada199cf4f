"""The pytest plug-in, in a pytest of its own: fixtures, options, markers, and what it loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rramhil.connected import Connected
from rramhil.device import Device
from rramhil.guard import Guard
from rramhil.pytest_plugin import ProgrammedNetwork

pytest_plugins = ["pytester"]
SMALL = "--rram-device=emulator:40nm?tiles=1&die=3"


@pytest.fixture(autouse=True)
def _own_ini(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\naddopts = --strict-markers -p no:cacheprovider\n")


def run(pytester: pytest.Pytester, test: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(test)
    return pytester.runpytest_subprocess(*options)


def test_it_loads_nothing_until_it_is_used() -> None:
    code = (
        "import sys, rramhil.pytest_plugin\n"
        "loaded = {'numpy', 'torch', 'pydantic', 'rramhil.device'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_address_fresh_dies_and_faults(pytester: pytest.Pytester) -> None:
    test = """
        import numpy as np
        import pytest
        from rramhil import Kind, Pulse

        def test_the_device_is_chosen_on_the_command_line(rram_device):
            assert rram_device.spec.serial.startswith("40nm-3")
            assert rram_device.spec.tiles == 1

        @pytest.mark.parametrize("n", range(2))
        def test_each_test_gets_a_fresh_die(rram_device, n):
            cells = rram_device.spec.cells(0, 0, range(8))
            before = rram_device.read(cells)
            rram_device.apply(Pulse(Kind.SET, cells, 3.0, 3.0, seconds=1e-6))
            assert before.mean() < 60e-6
            assert rram_device.read(cells).mean() > 2 * before.mean()

        @pytest.mark.rram_faults(stuck_lrs=0.5)
        class TestStuck:
            def test_many(self, rram_device):
                assert np.mean(rram_device.read(np.arange(1000)) > 60e-6) > 0.3

            @pytest.mark.rram_faults(stuck_lrs=0.0)
            def test_nearest_marker_wins(self, rram_device):
                assert np.mean(rram_device.read(np.arange(1000)) > 60e-6) < 0.2

        @pytest.mark.rram_faults(stuck_lsr=0.5)
        def test_a_misspelt_fault_fails_and_does_not_skip(rram_device):
            pass
    """
    result = run(pytester, test, SMALL)
    result.assert_outcomes(passed=5, errors=1)
    result.stdout.fnmatch_lines(
        [
            "rramhil: emulator:40nm?tiles=1&die=3",
            "*emulator has no fault 'stuck_lsr'; did you mean 'stuck_lrs'?*",
        ]
    )


def test_a_device_that_cannot_have_faults_skips(pytester: pytest.Pytester) -> None:
    test = """
        import pytest

        @pytest.mark.rram_faults(stuck_lrs=0.5)
        def test_stuck(rram_device):
            raise AssertionError
    """
    result = run(pytester, test, "-rs", "--rram-device=replay:nowhere.sqlite")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*replay: devices cannot be given the fault stuck_lrs*"])


def test_a_wrong_address_is_one_sentence_and_stops_only_who_uses_it(
    pytester: pytest.Pytester,
) -> None:
    test = """
        import sys

        def test_without_the_fixtures_nothing_is_loaded():
            assert "rramhil.device" not in sys.modules

        def test_device(rram_device):
            pass
    """
    result = run(pytester, test, "--rram-device=emulatr:40nm")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*Refused: no driver for 'emulatr' is installed*"])


def test_a_station_limits_the_device(pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", bench='name = "b"\n[pulses.set]\nvolts = ["0 V", "1 V"]\n')
    test = """
        import pytest
        from rramhil import Kind, Pulse, Refused

        @pytest.mark.parametrize("fixture", ["rram_device", "rram_journalled"])
        def test_limited(request, fixture):
            device = request.getfixturevalue(fixture)
            with pytest.raises(Refused, match="station file bench.toml"):
                device.apply(Pulse(Kind.SET, [0], 2.0, 1.0, seconds=1e-6))
    """
    run(pytester, test, SMALL, "--rram-station=bench.toml").assert_outcomes(passed=2)


BENCH = """
from fakes import FakeDie, fake_spec
from rramhil.device import Driver

DIE = FakeDie(fake_spec(volatile=False, newborn=False, serial="bench-1"))
LINKS = []

class Link(FakeDie):
    def __init__(self, address):
        super().__init__(DIE.spec)
        self.siemens, self.counted = DIE.siemens, DIE.counted
        assert not LINKS, "one link at a time"
        LINKS.append(self)

    def close(self):
        super().close()
        LINKS.clear()

driver = Driver("a bench", "bench:1", Link)
"""


def test_a_die_on_the_bench_is_never_without_its_ledger(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(bench_driver=BENCH)
    metadata = pytester.mkdir("bench_driver-1.dist-info")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-driver\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[rramhil.drivers]\nbench = bench_driver:driver\n")
    paths = [str(pytester.path), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    test = """
        import pytest
        from rramhil import Kind, Pulse
        from rramhil.connected import Connected
        from rramhil.ledger import LedgerReader
        from rramhil.station import home

        @pytest.mark.parametrize("fixture", ["rram_device", "rram_journalled"])
        def test_pulse(request, fixture):
            device = request.getfixturevalue(fixture)
            assert isinstance(device, Connected)
            device.apply(Pulse(Kind.SET, [0], 1.0, 1.0, seconds=1e-6))

        def test_it_is_all_written_down():
            with LedgerReader(home() / "dies" / "bench-1") as reader:
                assert reader.wear().pulses[0] == 2
    """
    run(pytester, test, "--rram-device=bench:1").assert_outcomes(passed=3)


# The project's own tests use the plug-in too.


def test_the_device_is_guarded(rram_device: Device) -> None:
    assert isinstance(rram_device, Guard)


def test_the_ledger_of_a_test_is_its_own(rram_journalled: Connected, tmp_path: Path) -> None:
    rram_journalled.read(np.arange(4))
    assert rram_journalled.ledger.path.is_relative_to(tmp_path)


def test_a_programmed_network_resembles_its_weights(rram_programmed: ProgrammedNetwork) -> None:
    ideal = rram_programmed.network.ideal_weights()
    measured = rram_programmed.read_weights()
    assert {name: w.shape for name, w in measured.items()} == {"first": (16, 8), "last": (8, 4)}
    together = [
        np.concatenate([w[n].ravel() for n in ("first", "last")]) for w in (ideal, measured)
    ]
    # Open loop; weights that belong elsewhere would give 0 +- 0.08.
    assert np.corrcoef(*together)[0, 1] > 0.4
