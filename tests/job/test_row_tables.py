"""Rows renamed and reordered in a job: through programming, readback and products in situ."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import rramhil
from rramhil.device import Refused, Spec
from rramhil.job import row_tables
from rramhil.job.file import JobFile, MappingTable
from rramhil.job.row_tables import Arrangement, arrange, check_reorder, check_rows, restored
from rramhil.job.subject import Material, Subject
from rramhil.mapping.conversions import Conversions
from rramhil.nn.in_situ import activation_ranges
from rramhil.run import Run
from rramhil.schema import FileError

TWO = {"levels": 2, "lowest": "5 uS", "highest": "200 uS", "tolerance": "10 uS", "percentile": 100}
REORDER = {"noise": "linear", "strength": 0.25, "iterations": 100, "images": 60, "layers": ["fc3"]}


def job(*steps: dict[str, Any], **mapping: Any) -> JobFile:
    table: dict[str, Any] = {
        "name": "rows",
        "device": {"address": "emulator:40nm?die=3&converter_noise=0"},
        "network": {"name": "digits-1b2b"},
        "data": {"name": "digits"},
        "mapping": {**TWO, **mapping},
        "steps": list(steps) or [{"do": "tune"}],
    }
    return JobFile.model_validate(table)


def arranged(wanted: JobFile) -> tuple[Material, Arrangement]:
    material = Material.load(wanted)
    with rramhil.connect(wanted.device.address) as device:
        arranging = arrange(material, wanted, device.spec)
        while True:
            try:
                next(arranging)
            except StopIteration as done:
                return material, done.value


def test_equal_rows_change_no_answer_and_take_fewer_cells() -> None:
    wanted = job(rename={"fc1": "equal", "fc3": "equal"}, reorder={**REORDER, "layers": ["fc3"]})
    material, found = arranged(wanted)
    with rramhil.connect(wanted.device.address) as device:
        plain = Subject(material, wanted, device.spec)
        subject = Subject(found.material(material), wanted, device.spec)
    assert subject.ideal == plain.ideal == subject.teacher
    saved = sum(
        told.rows - told.physical_rows for name, told in found.told.items() if name != "fc1"
    )
    assert subject.cells.size <= plain.cells.size - 2 * 10 * saved
    table = subject.mapped.layers[-1].row_of
    assert not np.array_equal(np.sort(table), table)  # in another order


def test_a_run_renames_programs_reads_multiplies_and_tells(tmp_path: Path) -> None:
    steps = [
        {"do": "tune"},
        {"do": "program", "how": "open_loop"},
        {"do": "evaluate", "name": "read"},
        {"do": "evaluate", "name": "multiplied", "how": "in_situ"},
    ]
    wanted = job(*steps, rename={"fc3": 40}, reorder=REORDER)
    run = Run.start(wanted, "")
    result = run.execute(watch=lambda _: None, should_stop=lambda: False)
    told = result.rows["fc3"]
    assert (told.rows, told.physical_rows) == (64, 40)
    assert told.saved_share == pytest.approx(1 - 40 / 64)
    assert told.index_bits == 64 * 6
    assert told.input_bits is not None
    assert told.input_bits >= 3
    own = told.converter_error[0]
    assert own.noise == "linear"
    assert 0 < own.after < own.before
    assert result.accuracy.ideal_mapping is not None
    shown = result.accuracy.model_dump()
    assert shown["read"] > result.accuracy.ideal_mapping - 0.1
    assert shown["multiplied"] > 0.3  # chance is 0.1; nobody trimmed the columns, 0.44 was seen
    kept = run.folder_of.load_arrays("arrays/rows.npz")
    assert len(np.unique(kept["fc3/rows"])) == 40


def test_what_was_kept_maps_as_before_and_the_same_seed_decides_the_same() -> None:
    wanted = job(rename={"fc3": 30}, reorder=REORDER)
    material, found = arranged(wanted)
    _, again = arranged(wanted)
    kept = restored(material, found.as_arrays())
    for other in (again, kept):
        assert other.rows.keys() == found.rows.keys()
        np.testing.assert_array_equal(other.rows["fc3"], found.rows["fc3"])
        np.testing.assert_array_equal(other.network.weights["fc3"], found.network.weights["fc3"])
        np.testing.assert_array_equal(other.network.biases["fc3"], found.network.biases["fc3"])
    assert kept.material(material).teacher is material.network
    bias = found.network.biases["fc3"].numpy()
    np.testing.assert_array_equal(bias, np.rint(bias))


@pytest.mark.parametrize("rows", [True, 0, "46", "equals", 2.0])
def test_rows_to_rename_to_are_equal_or_a_number(rows: object) -> None:
    with pytest.raises(ValidationError, match=r'give "equal", or a number of rows from 1'):
        MappingTable(rename={"fc3": rows})  # type: ignore[dict-item]


def judged_by(wanted: JobFile, input_bits: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is arranged on a macro of `input_bits`, and the conversions that were judged."""
    seen: list[Conversions] = []

    def kept(*arguments: Any) -> Conversions:
        seen.append(Conversions(*arguments))
        return seen[-1]

    monkeypatch.setattr(row_tables, "Conversions", kept)
    with rramhil.connect(wanted.device.address) as device:
        spec: Spec = device.spec
    assert spec.mvm is not None
    spec = replace(spec, mvm=replace(spec.mvm, input_bits=input_bits))
    arranging = arrange(Material.load(wanted), wanted, spec)
    while True:
        try:
            next(arranging)
        except StopIteration as done:
            return done.value, seen


def test_rows_that_need_several_products_are_judged_by_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A macro of 2 input bits takes no sum of two 2-bit codes, one of 8 bits takes all at once."""
    wanted = job(rename={"fc3": 40}, reorder={**REORDER, "iterations": 1})
    _, (at_once, *_) = judged_by(wanted, 8, monkeypatch)
    apart, (several, *_) = judged_by(wanted, 2, monkeypatch)
    most = apart.told["fc3"].most_shared
    assert most > 1
    assert at_once.inputs.max() > 3
    assert several.inputs.max() == 3
    assert several.inputs.shape == (60 * most, 40)
    added = several.inputs.reshape(most, 60, 40).sum(0)
    np.testing.assert_array_equal(added, at_once.inputs)
    own = apart.told["fc3"].converter_error[0]
    natural = np.arange(40)
    assert own.before == pytest.approx(most * several.expected_error(natural))
    assert several.expected_error(natural) != pytest.approx(at_once.expected_error(natural))
    with pytest.raises(Refused, match="takes codes up to 3, but the array those up to 1"):
        judged_by(wanted, 1, monkeypatch)


def test_reordering_sees_the_codes_that_a_job_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes by the percentile of [in_situ]: what lies beyond is cut, the rest is larger."""
    small = {**REORDER, "iterations": 1}
    floats = job(reorder=small).network.model_copy(update={"name": "digits"})
    wanted = job(reorder=small).model_copy(update={"network": floats})
    cut = wanted.model_copy(
        update={"in_situ": wanted.in_situ.model_copy(update={"input_percentile": 80.0})}
    )
    _, (largest, *_) = judged_by(wanted, 8, monkeypatch)
    _, (beyond, *_) = judged_by(cut, 8, monkeypatch)
    material = Material.load(wanted)
    ranges = [
        activation_ranges(material.network, material.calibration, percentile=p)["fc3"]
        for p in (100, 80)
    ]
    stretched = np.minimum(largest.inputs * ranges[0] / ranges[1], 255)
    assert ranges[1] < 0.8 * ranges[0]
    assert np.abs(stretched - beyond.inputs).max() <= 0.5 * ranges[0] / ranges[1] + 0.5


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"rename": {"fc4": 3}}, "rename names 'fc4', which is no layer.*did you mean 'fc[123]'"),
        ({"rename": {"fc3": 65}}, "rename of fc3: 64 rows cannot be merged to 65"),
        ({"reorder": {"layers": ["f3"]}}, "reorder.layers names 'f3'.*did you mean 'fc3'"),
        ({"reorder": {"images": 1000}}, "asks for 1000 images, but the calibration set has"),
    ],
)
def test_what_the_network_has_not_is_refused(mapping: dict[str, Any], words: str) -> None:
    wanted = job(**mapping)
    with pytest.raises(FileError, match=words):
        check_rows(wanted, Material.load(wanted))


def test_rows_of_many_values_are_not_merged_but_equal_ones_share() -> None:
    wanted = job(rename={"fc3": 20}).model_copy(
        update={"network": job().network.model_copy(update={"name": "digits"})}
    )
    material = Material.load(wanted)
    with pytest.raises(FileError, match=r'rows are merged where there are at most.*set "equal"'):
        check_rows(wanted, material)
    equal = wanted.mapping.model_copy(update={"rename": {"fc3": "equal"}})
    check_rows(wanted.model_copy(update={"mapping": equal}), material)


def test_reordering_for_a_macro_that_takes_rows_as_they_lie_is_refused() -> None:
    wanted = job(reorder={})
    with rramhil.connect("emulator:40nm") as device:
        spec = device.spec
    check_reorder(wanted, spec)
    assert spec.mvm is not None
    fixed = replace(spec, mvm=replace(spec.mvm, row_order="index"))
    with pytest.raises(Refused, match="does not sum the next rows with a non-zero"):
        check_reorder(wanted, fixed)
    with pytest.raises(Refused, match="computes no product"):
        check_reorder(wanted, replace(spec, mvm=None))
