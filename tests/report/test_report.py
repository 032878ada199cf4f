"""The report of a run: everything in it, from its folder alone, also when pieces are missing."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest

from rramhil.cost import Cost
from rramhil.job.result import Accuracies, RunResult
from rramhil.report import build, summary_table
from rramhil.report.cells import layout_of, level_yields, states_of
from rramhil.report.contents import read_contents
from rramhil.report.tables import cost_table
from rramhil.schema import FileError


def _load_made_up_run() -> ModuleType:
    path = Path(__file__).with_name("made_up_run.py")
    spec = importlib.util.spec_from_file_location("made_up_run", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


made_up = _load_made_up_run()
FIGURES = {
    "Accuracy of each way as bars",
    "Accuracy against device time",
    "Map of conductance of tile 0: target, then as read",
    "Map of the error of tile 0",
    "Target conductance against measured conductance",
    "Histogram of each level with its window",
    "Cells left in each round",
    "Learning curve",
    "Map of stuck, unreadable and noisy cells",
    "Gate curve",
}


class Page(HTMLParser):
    """A page taken apart: its text, its links, its pictures, the numbers of its tables."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.texts: list[str] = []
        self.links: list[str] = []
        self.figures: dict[str, str] = {}
        self.sections: list[str] = []
        self.numbers: list[str] = []
        self.tags: set[str] = set()
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self.links += [found[name] for name in ("src", "href") if name in found]
        if tag == "img":
            self.figures[found["alt"]] = unquote(found["src"].split(",", 1)[1])
        if tag == "section":
            self.sections.append(found["id"])
        if tag == "data":
            self.numbers.append(found["value"])

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "run"
    made_up.write_run(path)
    return path


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(build(folder))


def _store(folder: Path, result: RunResult) -> None:
    (folder / "result.json").write_text(result.model_dump_json(), encoding="utf-8")


def test_every_section_and_picture_is_there(page: Page) -> None:
    assert page.sections == ["accuracy", "cells", "repair", "chip", "record"]
    assert set(page.figures) == FIGURES
    assert "cannot be drawn" not in page.text


def test_pictures_are_whole_svgs_for_light_and_dark(page: Page) -> None:
    for svg in page.figures.values():
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        assert "prefers-color-scheme:dark" in svg
    assert "prefers-color-scheme: dark" in page.source


def test_nothing_outside_the_file_is_referred_to(page: Page) -> None:
    assert page.links
    assert all(link.startswith("data:image/") for link in page.links)
    assert not page.tags & {"script", "link", "iframe", "object"}
    for svg in page.figures.values():
        inside = re.findall(r'href="([^"]*)"', svg) + re.findall(r"url\(([^)]*)\)", svg)
        assert all(link.startswith(("#", "data:")) for link in inside)
    assert len(page.source) < 3_000_000


def test_the_headline_has_the_numbers(page: Page) -> None:
    for shown in ("87.4 %", "96.5 %", "96.8 %", "95.7 %", "96.1 %", "no further pulse"):
        assert shown in page.text


def test_the_cost_table_says_what_the_result_says(folder: Path, page: Page) -> None:
    result = RunResult.model_validate_json((folder / "result.json").read_bytes())
    ways = list(result.cost.values())
    for field in ("device_seconds", "host_seconds", "pulses", "reads", "digital_parameters",
                  "index_bits", "images", "labels", "joules_estimate"):  # fmt: skip
        row = [repr(getattr(cost, field)) for cost in ways]
        starts = [i for i in range(len(page.numbers)) if page.numbers[i : i + len(row)] == row]
        assert starts, f"{field} {row} is not a row of the table"
    accuracy = [repr(result.accuracy.model_dump()[name]) for name in result.cost]
    assert page.numbers[: len(accuracy)] == accuracy


def test_each_count_of_a_cost_has_its_line_where_there_is_one(folder: Path) -> None:
    result = RunResult.model_validate_json((folder / "result.json").read_bytes())

    def lines(cost: Cost) -> str:
        shown = cost_table(result.model_copy(update={"cost": {"rsa": cost}}))
        return "\n".join("|".join(line.itertext()) for line in shown.iter("tr"))

    more = {"products": 61, "memory_writes": 62}
    prices = {"read_joules_estimate": 6.3e-6, "product_joules_estimate": 6.4e-6}
    shown, without = lines(Cost(**more, **prices)), lines(Cost())
    for words in ("Products", "numbers written", "Energy of the readings", "Energy of the prod"):
        assert words in shown
        assert words not in without


def test_device_times_are_compared_both_ways_with_what_they_were_reckoned_with(page: Page) -> None:
    for row in (["0.5", "11.2"], ["0.5131", "11.2131"], ["22.4", "1.0"], ["21.8", "1.0"]):
        assert any(page.numbers[i : i + 2] == row for i in range(len(page.numbers)))
    for words in ("[timing]", "6.5 µs for 16 cells", "10 ns for 8", "faster than R-V-W"):
        assert words in page.text.replace("\N{NO-BREAK SPACE}", " "), words


def test_the_record_leads_back_to_the_ledger(page: Page) -> None:
    for shown in ("9f" * 32, "4d" * 32, "ledgers/40nm-7/ledger.sqlite", "emulator:40nm?die=7"):
        assert shown in page.text
    assert 'name = "digits-mlp"' in page.text
    assert "row 12 of tile 0 holds mapped cells" in page.text
    assert "bad rows: tile 0 row 12, tile 0 row 203" in page.text


def test_the_yield_counts_unreadable_cells_as_outside(folder: Path) -> None:
    contents = read_contents(folder)
    layout = layout_of(contents)
    assert layout is not None
    states = states_of(contents, layout)
    assert [state.title for state in states] == ["As programmed", "After R-V-W"]
    for state in states:
        with np.errstate(invalid="ignore"):
            inside = (state.siemens >= layout.low) & (state.siemens <= layout.high)
        yields = level_yields(layout, state.siemens)
        assert sum(one.inside for one in yields) == int(inside.sum())
        assert sum(one.cells for one in yields) == layout.count
        assert np.isfinite([(one.median, one.rms_error) for one in yields]).all()


def test_texts_of_the_run_are_escaped(tmp_path: Path) -> None:
    bad = '<script>alert("x")</script> & $a$ </style>'
    result = made_up.write_run(tmp_path, job=f"# {bad}\n")
    repairs = Accuracies.model_validate({"open_loop": 0.8, bad: 0.9})
    _store(
        tmp_path,
        result.model_copy(
            update={
                "name": bad, "run": bad, "warnings": [bad], "ledger": bad, "accuracy": repairs,
                "cost": {"open_loop": Cost(device_seconds=1), bad: Cost(device_seconds=2)},
            }
        ),
    )  # fmt: skip
    page = Page(build(tmp_path))
    assert "script" not in page.tags
    assert page.source.count("</style>") == 1
    assert page.text.count('<script>alert("x")</script> & $a$') >= 5
    assert "cannot be drawn" not in page.text
    bars = ElementTree.fromstring(page.figures["Accuracy of each way as bars"])
    assert "$a$" in "".join(bars.itertext())
    for svg in page.figures.values():
        assert not ElementTree.fromstring(svg).findall(".//{*}script")


@pytest.mark.parametrize(
    ("names", "lost"),
    [
        (["layout"], "tile 0|Target|Histogram"),
        (["00-scan", "01-tune", "04-rsa", "05-rvw"], "Map of stuck|Gate|Learning|Cells left"),
    ],
)
def test_a_missing_array_file_costs_its_pictures_only(
    tmp_path: Path, names: list[str], lost: str
) -> None:
    made_up.write_run(tmp_path)
    for name in names:
        (tmp_path / "arrays" / f"{name}.npz").unlink()
    page = Page(build(tmp_path))
    assert FIGURES - set(page.figures) == {alt for alt in FIGURES if re.search(lost, alt)}
    assert "cannot be drawn" not in page.text
    for name in set(names) - {"layout"}:
        assert f"{name}.npz could not be read" in page.text


def test_damaged_and_foreign_arrays_are_said_not_raised(tmp_path: Path) -> None:
    result = made_up.write_run(tmp_path / "run")
    result.steps[3].arrays = "../elsewhere.npz"
    _store(tmp_path / "run", result)
    paths = list((tmp_path / "run" / "arrays").iterdir())
    for path in paths:
        path.write_bytes(path.read_bytes()[:200])
    page = Page(build(tmp_path / "run"))
    assert page.text.count(".npz could not be read") == 6
    assert page.text.count("elsewhere.npz lies outside the run's folder") == 1
    for path in paths:
        np.savez(path, cells=np.zeros(3, np.int64), siemens=np.zeros((2, 2)), epoch=np.ones(2))
    assert Page(build(tmp_path / "run")).sections == ["accuracy", "record"]
    (tmp_path / "run" / "arrays" / "00-scan.npz").write_bytes(b"\x93NUMPY\x01\x00")
    assert "00-scan.npz could not be read" in Page(build(tmp_path / "run")).text


@pytest.mark.parametrize("outcome", ["running", "stopped", "failed"])
def test_a_run_that_did_nothing_yet_has_a_report(tmp_path: Path, outcome: str) -> None:
    result = RunResult.model_validate(
        {"run": "r", "name": "empty", "outcome": outcome, "address": "emulator:40nm",
         "folder": ".", "seed": 0, "error": "the link broke" if outcome == "failed" else None}
    )  # fmt: skip
    _store(tmp_path, result)
    page = Page(build(tmp_path))
    assert page.sections == ["accuracy", "record"]
    assert "No accuracy was measured on emulator:40nm." in page.text
    assert ("the link broke" in page.text) == (outcome == "failed")
    assert "The run" in page.text


def test_a_run_stopped_after_programming(tmp_path: Path) -> None:
    result = made_up.write_run(tmp_path)
    steps = result.steps[:3]
    steps[2].outcome = "stopped"
    update = {
        "steps": steps, "outcome": "stopped", "intervals": {}, "cost": {},
        "accuracy": Accuracies(teacher=0.96, ideal_mapping=0.95),
    }  # fmt: skip
    _store(tmp_path, result.model_copy(update=update))
    page = Page(build(tmp_path))
    assert "Step 3 (program) did not finish." in page.text
    assert "Histogram of each level with its window" in page.figures
    assert "Cells left in each round" not in page.figures


def test_a_run_without_an_open_loop_says_what_its_steps_gave(tmp_path: Path) -> None:
    said = {"run": "r", "name": "chip", "outcome": "finished", "address": "emulator:40nm",
            "folder": ".", "seed": 0,
            "accuracy": {"teacher": 0.96, "ideal_mapping": 0.95, "in_situ": 0.94}}  # fmt: skip
    _store(tmp_path, RunResult.model_validate(said))
    text = Page(build(tmp_path)).text
    assert "On emulator:40nm the network could reach 95.0 % for an ideal mapping" in text
    assert "in_situ gives 94.0 %" in text


def test_a_network_over_many_tiles_stays_small(tmp_path: Path) -> None:
    made_up.write_run(tmp_path, made_up.WIDE)
    page = Page(build(tmp_path))
    assert sum(alt.startswith("Map of conductance") for alt in page.figures) == 4
    assert len(page.source) < 3_000_000


def test_cells_that_never_answered_are_no_error(tmp_path: Path) -> None:
    result = made_up.write_run(tmp_path)
    count = np.load(tmp_path / "arrays" / "layout.npz")["cells"].size
    for step in (2, 5):
        path = tmp_path / str(result.steps[step].arrays)
        with np.load(path) as stored:
            arrays = dict(stored)
        np.savez(path, **(arrays | {"siemens": np.full(count, np.nan, np.float32)}))
    page = Page(build(tmp_path))
    assert set(page.figures) == FIGURES
    assert "cannot be drawn" not in page.text


def test_no_result_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"result\.json is no result of a run"):
        build(tmp_path)


def test_building_twice_gives_the_same_page(folder: Path, page: Page) -> None:
    assert build(folder).read_text(encoding="utf-8") == page.source
    assert not list(folder.glob(".report*"))


def test_summary_rows_follow_the_run() -> None:
    rows = summary_table(made_up.made_up_result(Path()))
    assert [row.name for row in rows] == ["teacher", "ideal_mapping", "open_loop", "rsa", "rvw"]
    by_name = {row.name: row for row in rows}
    assert by_name["rsa"].loss == pytest.approx(0.83)
    assert by_name["teacher"].loss is None
    assert by_name["teacher"].cost is None
    assert by_name["rvw"].texts() == (
        "R-V-W", "96.1\u00a0%", "0.4", "11.9 s", "81\u202f243", "90\u202f355", "0"
    )  # fmt: skip


def test_importing_the_package_draws_nothing() -> None:
    code = (
        "import sys, rramhil.report; from rramhil.report import summary_table; "
        "print(sorted({'matplotlib', 'torch', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_price_of_pulses_that_the_chip_chose_is_never_shown_as_nothing(folder: Path) -> None:
    result = RunResult.model_validate_json((folder / "result.json").read_bytes())

    def lines(**changes: object) -> dict[str, str]:
        cost = {**result.cost, "rvw": result.cost["rvw"].model_copy(update=changes)}
        shown = cost_table(result.model_copy(update={"cost": cost}))
        texts = ["|".join(line.itertext()) for line in shown.iter("tr")]
        return {word: next(t for t in texts if word in t) for word in ("Energy of", "Wear")}

    before = lines()
    assert not any("known" in line or "more than" in line for line in before.values())
    some = lines(unpriced_pulses=1000)
    assert all("more than" in line for line in some.values())
    nothing = lines(unpriced_pulses=81_243, joules_estimate=0.0, high_voltage_volt_seconds=0.0)
    assert all("not known" in line for line in nothing.values())
