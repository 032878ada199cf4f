"""What a scan decides: places around faults, the scheme; resumed, replayed, refused in time."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import rramhil
from rramhil.device import Refused
from rramhil.job.deciding import _rounding, seen_by
from rramhil.job.file import JobFile
from rramhil.job.result import RunResult
from rramhil.job.subject import Decision, Material, Subject
from rramhil.mapping import Block
from rramhil.nn.layers import by_weights, walk
from rramhil.nn.network import Images
from rramhil.rerun import replay
from rramhil.run import Run
from rramhil.schema import FileError, check

TEXT = """
name = "placed"
seed = 3
network = { name = "digits" }
data = { name = "digits" }
[device]
address = "emulator:statistical?law=multiplicative&sigma=0&die=3&seed=3&tiles=1&FAULTS"
[mapping]
lowest = "1 uS"
highest = "40 uS"
tolerance = "2 uS"
MAPPING
[[steps]]
do = "scan"
reads = 2
set_gate = "3 V"
thresholds = { stuck_lrs_siemens = "20 uS", stuck_hrs_siemens = "2 uS", noisy_siemens = "4 uS" }
[[steps]]
do = "tune"
first_gate = "1 V"
last_gate = "3 V"
points = 11
cells = 64
[[steps]]
do = "program"
[[steps]]
do = "evaluate"
"""
ROWS = "stuck_rows=0.3"
PLACED = "around_faults = true"


def job(mapping: str, faults: str = ROWS, text: str = TEXT) -> tuple[JobFile, str]:
    text = text.replace("MAPPING", mapping).replace("FAULTS", faults)
    return check(tomllib.loads(text), JobFile, "job.toml"), text


def run(mapping: str, faults: str = ROWS) -> RunResult:
    return Run.start(*job(mapping, faults)).execute(lambda _: None, lambda: False)


@cache
def lost(mapping: str) -> float:
    """Points that bad word lines cost under `mapping`."""
    accuracy = run(mapping).accuracy.model_dump()
    return 100 * float(accuracy["ideal_mapping"] - accuracy["evaluate"])


def layout(result: RunResult) -> np.ndarray:
    with np.load(Path(result.folder) / "arrays" / "layout.npz") as stored:
        return np.asarray(stored["cells"])


def test_a_network_that_is_placed_by_a_scan_loses_less_to_bad_word_lines() -> None:
    assert lost("") > 10
    assert lost(PLACED) < 1


def test_what_rounding_costs_counts_the_inputs_of_shared_rows_together() -> None:
    """Each physical row's error meets the sum of its inputs: measured on the images."""
    wanted, _ = job("levels = 3")
    plain = Material.load(wanted)
    table = np.arange(64) // 2
    weight = plain.network.weights["fc3"][::2].repeat_interleave(2, 0)
    tied = replace(plain.network, weights={**plain.network.weights, "fc3": weight})
    few = Images(plain.calibration.pixels[:100], plain.calibration.labels[:100])
    material = replace(plain, network=tied, rows={"fc3": table})
    with rramhil.connect(wanted.device.address) as device:
        subject = Subject(material, wanted, device.spec)
    rows = {layer.name: layer.row_of for layer in subject.mapped.layers}
    ideal, total = subject.mapped.ideal_weights(), 0.0
    for step in walk(tied.card.layers, few.pixels, by_weights(tied.weights, tied.biases)):
        name, inputs = step.layer.name, step.inputs.flatten(1).double().numpy()
        errors = ideal[name] - tied.weights[name].numpy()
        of_rows = [
            (inputs[:, rows[name] == row] @ errors[rows[name] == row]) ** 2
            for row in range(int(rows[name].max()) + 1)
        ]
        variance = step.outputs.double().numpy().var(axis=0).mean()
        total += float(sum(squares.mean() for squares in of_rows) / variance)
    found = _rounding(subject.mapped, subject, seen_by(tied, few, rows))
    assert found == pytest.approx(total, rel=1e-4)


def test_rows_that_share_cells_are_placed_and_watched() -> None:
    binary = TEXT.replace('{ name = "digits" }', '{ name = "digits-1b2b" }', 1)
    binary += '[[steps]]\ndo = "watch"\n'
    levels = "percentile = 100\nlevels = 2\n" + PLACED + "\nrename = { fc3 = 40 }"
    run = Run.start(*job(levels, text=binary))
    result = run.execute(lambda _: None, lambda: False)
    scan, watch = result.steps[0].findings, result.steps[-1].findings
    assert result.rows["fc3"].physical_rows == 40
    assert 0 < float(scan["expected_error_before"] or 0) < 10
    assert float(scan["expected_error"] or 0) < 0.2 * float(scan["expected_error_before"] or 0)
    assert 0 <= float(watch["output_error_share"] or 0) < 0.1


def test_the_scan_tells_what_it_decided_and_the_report_knows_the_cells() -> None:
    result = run(PLACED)
    found = result.steps[0].findings
    assert found["scheme"] == "two_column"
    assert float(found["expected_error"] or 0) < 0.1 * float(found["expected_error_before"] or 0)
    assert int(found["stuck_under_weights"] or 0) < int(found["stuck_before"] or 0)
    assert int(found["bad_rows_spared"] or 0) > 30
    with np.load(Path(result.folder) / str(result.steps[0].arrays)) as scan:
        stuck = scan["cells"][scan["stuck_lrs"] | scan["stuck_hrs"]]
        decision = Decision.from_arrays(dict(scan))
    assert decision is not None
    cells = layout(result)
    assert np.isin(cells, stuck).sum() == found["stuck_under_weights"]
    assert np.unique(cells).size == sum(block.rows * block.cols for block in decision.blocks)


def test_a_run_that_is_stopped_after_the_scan_goes_on_in_the_same_cells() -> None:
    whole = run(PLACED)
    again = Run.start(*job(PLACED))
    seen: list[str] = []
    again.execute(lambda p: seen.append(p.name), lambda: seen[-1:] == ["program"])
    assert again.result.outcome == "stopped"
    result = Run.open(again.run).execute(lambda _: None, lambda: False)
    np.testing.assert_array_equal(layout(result), layout(whole))
    assert result.accuracy == whole.accuracy
    recorded, replayed = replay(again.run, lambda _: None, lambda: False)
    assert replayed.accuracy == recorded.accuracy
    assert replayed.steps[0].findings == recorded.steps[0].findings


@pytest.mark.parametrize(
    ("faults", "scheme"), [("stuck_lrs=0.2", "differential"), ("stuck_hrs=0.2", "two_column")]
)
def test_the_scheme_is_the_one_that_the_faults_of_the_chip_cost_least(
    faults: str, scheme: str
) -> None:
    result = run('scheme = "auto"', faults)
    found = result.steps[0].findings
    assert found["scheme"] == scheme
    other = {"differential": "two_column", "two_column": "differential"}[scheme]
    error = {name: float(found[f"{name}_expected_error"] or 0) for name in (scheme, other)}
    assert error[scheme] < error[other]
    assert "times the current" in str(found["why"])
    with np.load(Path(result.folder) / "arrays" / "layout.npz") as stored:
        zeros = np.median(stored["target"])
    assert zeros > 20e-6 if scheme == "differential" else zeros < 20e-6


def test_cells_that_the_station_bars_are_avoided_or_refused_before_a_pulse(tmp_path: Path) -> None:
    station = tmp_path / "bench.toml"
    station.write_text('name = "bench"\n[barred]\nrows = [[0, 0], [0, 9]]\ncells = [[0, 2, 3]]\n')
    text = TEXT.replace("[mapping]", f'station = "{station}"\n[mapping]')
    with pytest.raises(Refused, match=r"are barred by the station file.* around_faults = true"):
        Run.start(*job("", "stuck_lrs=0", text)).execute(lambda _: None, lambda: False)
    result = Run.start(*job(PLACED, "stuck_lrs=0", text)).execute(lambda _: None, lambda: False)
    cells = layout(result)
    assert not np.isin(cells // 256, [0, 9]).any()
    assert 2 * 256 + 3 not in cells
    accuracy = result.accuracy.model_dump()
    assert accuracy["evaluate"] == pytest.approx(accuracy["ideal_mapping"], abs=0.01)


def test_a_scheme_that_would_lie_on_barred_cells_is_not_chosen(tmp_path: Path) -> None:
    text = TEXT.replace('name = "digits" }\ndata', 'name = "digits-1b2b" }\ndata')
    lying = {}
    for mapping in ('scheme = "one_column"', 'scheme = "two_column"', 'scheme = "auto"'):
        levels = f"levels = 2\npercentile = 100\n{mapping}"
        begun, whole = Run.start(*job(levels, "stuck_lrs=0", text)), "auto" in mapping
        result = begun.execute(lambda _: None, lambda whole=whole: not whole)  # type: ignore[misc]
        lying[mapping] = layout(result)
    assert result.steps[0].findings["scheme"] == "one_column"
    one, two, _ = lying.values()
    tile, row, column = 0, *divmod(int(np.setdiff1d(one, two)[0]), 256)
    station = tmp_path / "bench.toml"
    station.write_text(f'name = "bench"\n[barred]\ncells = [[{tile}, {row}, {column}]]\n')
    text = text.replace("[mapping]", f'station = "{station}"\n[mapping]')
    result = Run.start(*job(levels, "stuck_lrs=0", text)).execute(lambda _: None, lambda: False)
    assert result.outcome == "finished"
    assert result.steps[0].findings["scheme"] == "two_column"


def test_estimates_are_those_of_the_mapping_that_was_decided() -> None:
    text = f'{TEXT}how = "in_situ"\n'

    def amps(mapping: str, last: str) -> list[float | None]:
        seen: list[str] = []
        begun = Run.start(*job(mapping, "stuck_lrs=0.2", text))
        result = begun.execute(lambda p: seen.append(p.name), lambda: seen[-1:] == [last])
        return [quantity.value for quantity in result.estimates if quantity.unit == "A"]

    decided = amps('scheme = "auto"', "tune")
    assert decided == amps('scheme = "differential"', "prepare")
    assert decided != amps('scheme = "two_column"', "prepare")


@pytest.mark.parametrize("mapping", [PLACED, 'scheme = "auto"'])
def test_what_a_scan_decides_needs_a_scan_before_the_first_programming(mapping: str) -> None:
    head, scan, rest = TEXT.partition('[[steps]]\ndo = "scan"')
    _, tune, after = rest.partition("[[steps]]")
    without = head + tune + after
    with pytest.raises(FileError, match="put a step 'scan' before it"):
        job(mapping, text=without)
    late = f'{without}[[steps]]\ndo = "scan"\n'
    with pytest.raises(FileError, match="put a step 'scan' before it"):
        job(mapping, text=late)
    assert scan


def test_unknown_schemes_and_reference_columns_are_refused() -> None:
    with pytest.raises(FileError, match=r"no mapping scheme 'autp'.*auto"):
        job('scheme = "autp"')
    with pytest.raises(FileError, match="reference column, which around_faults cannot move"):
        job(f'scheme = "reference_column"\n{PLACED}')


def test_a_decision_survives_as_arrays() -> None:
    blocks = (
        Block("a", 0, 0, 1, np.array([3, 1]), np.array([4, 5, 0, 1])),
        Block("b", 2, 4, 0, np.array([7]), np.array([2, 3])),
    )
    found = Decision.from_arrays(Decision("differential", blocks).as_arrays())
    assert found is not None
    assert found.scheme == "differential"
    for one, other in zip(found.blocks, blocks, strict=True):
        assert (one.layer, one.row, one.col, one.tile) == (
            other.layer,
            other.row,
            other.col,
            other.tile,
        )
        np.testing.assert_array_equal(one.lines, other.lines)
        np.testing.assert_array_equal(one.columns, other.columns)
    assert Decision.from_arrays({"cells": np.arange(3)}) is None
