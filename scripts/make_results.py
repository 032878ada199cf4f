"""Fill the tables and draw the pictures of docs/results.md from rows that benchmarks printed.

    scripts/bench recovery --json > docs/results/recovery.jsonl
    python scripts/make_results.py

A table stands between `<!-- table NAME -->` and `<!-- end -->`, NAME being that of the file of
rows; the table of a file that is not there is left as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import results_codesign
import results_differential
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from rramhil.report.style import GRID, REPAIRS, house_style

DOCS = Path(__file__).parent.parent / "docs"
REQUIRED = {
    "mult0.5_128": ("multiplicative 0.5", 0.6),
    "mult0.5_1000": ("multiplicative 0.5", 0.3),
    "saf_hrs_128": ("multiplicative 0.3, stuck 1.75 % LRS, 9.04 % HRS", 0.3),
    "saf_lrs_5000": ("multiplicative 0.3, stuck 9.04 % LRS, 1.75 % HRS", 0.6),
    "range0.3_5000": ("0.3 of the range", 0.9),
}
CIFAR = {
    "mult0.3": "multiplicative 0.3",
    "mult0.5": "multiplicative 0.5",
    "saf_hrs": REQUIRED["saf_hrs_128"][0],
    "saf_lrs": REQUIRED["saf_lrs_5000"][0],
}
CURVES = {
    "mult0.1": "LeNet-5, sigma 0.1",
    "mult0.3": "LeNet-5, sigma 0.3",
    "mult0.5": "LeNet-5, sigma 0.5",
    "cifar_mult0.3": "ResNet-20, sigma 0.3",
    "cifar_mult0.5": "ResNet-20, sigma 0.5",
}
DAC2020 = {
    "sigma_of_level": "sigma is 0.5 of the level",
    "variance_of_level": "variance is 0.5 of the level squared (sigma 0.71)",
    "sigma_lognormal": "sigma of the logarithm is 0.5",
    "sigma_of_range": "sigma is 0.5 of the range",
    "variance_of_range": "variance is 0.5 of the range squared (sigma 0.71)",
}
SPEEDUP = {
    "closed": "closed form, 5 %",
    "closed_best": "closed form, 8 %, distilled",
    "rvw_selected": "R-V-W of 5 % (errx)",
    "rvw_one_pass": "R-V-W of all, one pass",
    "rvw": "R-V-W of all, three passes",
}
Rows = dict[str, dict[str, Any]]


def main() -> None:
    """Rewrite docs/results.md and docs/images/recovery-*.png."""
    page = DOCS / "results.md"
    text = page.read_text("utf-8")
    for path in sorted((DOCS / "results").glob("*.jsonl")):
        rows = {row["row"]: row for row in map(json.loads, path.read_text("utf-8").splitlines())}
        table = "\n".join(TABLES.get(path.stem, plain)(rows))
        pattern = rf"(<!-- table {path.stem} -->\n).*?(<!-- end -->)"
        text, found = re.subn(pattern, rf"\g<1>{table}\n\g<2>", text, flags=re.DOTALL)
        if not found:
            raise SystemExit(f"error: docs/results.md has no table {path.stem!r}; add its markers")
        if path.stem in PICTURES:
            _draw(path.stem, PICTURES[path.stem], rows)
    page.write_text(text, "utf-8")


def required(rows: Rows) -> Iterable[str]:
    """What is asked of the closed form, and what it gives."""
    yield "| error of the cells | images | sparse, % | before, % | loss | worst die | asked |"
    yield "|---|---|---|---|---|---|---|"
    for name, (error, most) in REQUIRED.items():
        case, images = name.rsplit("_", 1)
        loss = rows[f"{name}_loss"]
        yield (
            f"| {error} | {images} | {rows[f'{name}_sparse']['value']:.1f} | "
            f"{rows[f'{case}_before']['value']:.1f} | {_value(loss)} | "
            f"{rows[f'{name}_loss_worst_die']['value']:.2f} | <= {most:g} |"
        )
    cpu = _value(rows["cpu_seconds_per_die"])
    yield f"\nA repair with 128 images, evaluation included: {cpu} CPU seconds a die."


def in_situ(rows: Rows) -> Iterable[str]:
    """Losses of each way of repair on the array, a column for each noise of the converter."""
    pattern = re.compile(r"(\S+ \S+) noise x(\d) (.*)_loss")
    found = [m.groups() for name in rows if (m := pattern.fullmatch(name))]
    noises = list(dict.fromkeys(noise for _, noise, _ in found))
    yield f"| points under the ideal mapping | {' | '.join(f'noise x{n}' for n in noises)} | dies |"
    yield "|---" * (len(noises) + 2) + "|"
    for subject, way in dict.fromkeys((subject, way) for subject, _, way in found):
        own = [rows.get(f"{subject} noise x{noise} {way}_loss") for noise in noises]
        cells = ["" if row is None else _value(row) for row in own]
        dies = next(row["n"] for row in own if row is not None)
        yield f"| {subject}: {way} | {' | '.join(cells)} | {dies} |"


def plain(rows: Rows) -> Iterable[str]:
    """Every row as it was printed."""
    yield "| row | value | unit | n |"
    yield "|---|---|---|---|"
    for name, row in rows.items():
        yield f"| `{name}` | {_value(row)} | {row['unit']} | {row['n']} |"


def _value(row: dict[str, Any]) -> str:
    digits = 2 if abs(row["value"]) < 1000 else 0
    value = f"{row['value']:.{digits}f}" if abs(row["value"]) >= 0.1 else f"{row['value']:.3g}"
    return value if row["spread"] is None else f"{value} ± {row['spread']:.2g}"


def cifar(rows: Rows) -> Iterable[str]:
    """ResNet-20: what each way leaves lost of the teacher's accuracy."""
    yield "| error of the cells | dies | before, % | way | loss to teacher | worst die |"
    yield "|---|---|---|---|---|---|"
    for name, row in rows.items():
        if not (found := re.fullmatch(r"(.+)_(\w+)_to_teacher_loss", name)):
            continue
        error, way = found.groups()
        worst = rows[f"{name}_worst_die"]["value"]
        yield (
            f"| {CIFAR[error]} | {row['n']} | {rows[f'{error}_before']['value']:.1f} | {way} | "
            f"{_value(row)} | {worst:.2f} |"
        )
    worst, ideal = rows["cifar10_loss_to_teacher"], rows["mult0.3_ideal_mapping"]["value"]
    yield (
        f"\nThe teacher has {rows['mult0.3_teacher']['value']:.2f} %, the ideal mapping "
        f"{ideal:.2f} %. "
        f"`cifar10_loss_to_teacher`, the worst mean of the three required errors: "
        f"{worst['value']:.2f} points (asked: <= 1.0)."
    )


def curves(rows: Rows) -> Iterable[str]:
    """RSA to the letter by share of the weights, masks, and the readings of "50 % variance"."""
    shares = ("1", "3", "5", "10")
    yield "| random numbers, loss in points | before | 1 % | 3 % | 5 % | 10 % |"
    yield "|---|---|---|---|---|---|"
    groups = [name.removesuffix("_before_loss") for name in rows if name.endswith("_before_loss")]
    for group in groups:
        for loss in ("labels", "distillation"):
            cells = [rows.get(f"{group}_rsa_{share}_{loss}_loss") for share in shares]
            if any(cells):
                given = " | ".join(_value(row) if row else "" for row in cells)
                at_first = _value(rows[f"{group}_before_loss"])
                yield f"| {CURVES[group]}, {loss} | {at_first} | {given} |"
    masks = {name: row for name, row in rows.items() if "_mask_" in name}
    if masks:
        yield "\n| mask (closed form, 5 %, 128 images, sigma 0.5) | loss |"
        yield "|---|---|"
    for name, row in masks.items():
        yield f"| `{name.removeprefix('mult0.5_mask_').removesuffix('_loss')}` | {_value(row)} |"
    there = {name: text for name, text in DAC2020.items() if f"dac2020_{name}_after_loss" in rows}
    if there:
        yield '\n| "10 levels, 50 % variance" read as | loss before | after 8 %, 5,000 images |'
        yield "|---|---|---|"
    for name, reading in there.items():
        before, after = (rows[f"dac2020_{name}_{when}_loss"] for when in ("before", "after"))
        yield f"| {reading} | {_value(before)} | {_value(after)} |"


def draw_curves(figure: Figure, rows: Rows) -> None:
    """Loss against sparse numbers, against images, and of random sparse adaptation.

    A panel whose rows are not there yet is left out.
    """
    panels = [
        name for name in ("sparse", "images", "rsa") if any(f"_{name}_" in row for row in rows)
    ]
    beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
    figure.set_figwidth(1.5 + 3.5 * len(panels))
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        match panel:
            case "sparse":
                _curve(axes, rows, r"mult0\.5_sparse_([\d.]+)_loss", "closed form, 128 images", 0)
                axes.set(xlabel="sparse numbers, % of weights", title="sigma 0.5: digital memory")
                axes.set_yscale("symlog", linthresh=0.1)
            case "images":
                _curve(axes, rows, r"mult0\.5_images_(\d+)_loss", "closed form, 5 %", 0)
                axes.set(xlabel="unlabelled images", xscale="log", title="sigma 0.5: images")
                axes.set_yscale("symlog", linthresh=0.1)
            case _:
                _literal(axes, rows)
        axes.legend(fontsize=7, **beside if panel == "rsa" else {})
    figure.axes[0].set_ylabel("loss, points")


def _literal(axes: Any, rows: Rows) -> None:
    for index, sigma in enumerate(("0.1", "0.3", "0.5")):
        for loss, style in (("labels", "--"), ("distillation", "-")):
            pattern = rf"mult{re.escape(sigma)}_rsa_([\d.]+)_{loss}_loss"
            _curve(axes, rows, pattern, f"sigma {sigma}, {loss}", index, style)
    axes.axhline(0, color=GRID, zorder=0)
    axes.set(xlabel="random numbers, % of weights", title="RSA to the letter, 1,000 images")


def draw_speedup(figure: Figure, rows: Rows) -> None:
    """Loss against what it wrote and against the device time that it took."""
    writes, seconds = figure.subplots(1, 2, sharey=True)
    for index, (way, label) in enumerate(SPEEDUP.items()):
        loss = rows[f"{way}_loss"]
        pulses = rows.get(f"{way}_pulses_per_cell", {"value": 0.0})["value"]
        time = 1e3 * rows[f"{way}_device_seconds"]["value"]
        for axes, x in ((writes, pulses), (seconds, time)):
            axes.errorbar(
                x, loss["value"], loss["spread"], fmt="os^Dv"[index], color=REPAIRS[index],
                markersize=6, capsize=3, label=label,
            )  # fmt: skip
    writes.set(xlabel="pulses a cell after the first programming", ylabel="loss, points")
    writes.set_title("writes")
    seconds.set(xlabel="device time after the first programming, ms", xscale="log")
    seconds.set_title("device time")
    writes.set_ylim(bottom=0)
    seconds.legend(fontsize=7)


TABLES = {
    "recovery": required,
    "in_situ": in_situ,
    "recovery_cifar": cifar,
    "recovery_curves": curves,
    "differential": results_differential.table,
}
"""How a file of rows is told, where not as it was printed."""

PICTURES: dict[str, Callable[[Figure, Rows], None]] = {
    "recovery_curves": draw_curves,
    "recovery_speedup": draw_speedup,
    "rename": results_codesign.rename,
    "reorder": results_codesign.reorder,
    "placement": results_codesign.placement,
    "differential": results_differential.draw,
}


def _draw(name: str, picture: Callable[[Figure, Rows], None], rows: Rows) -> None:
    (DOCS / "images").mkdir(exist_ok=True)
    with house_style():
        figure = Figure(figsize=(9.5, 3.2), layout="constrained")
        picture(figure, rows)
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                if axis.get_scale() in ("log", "symlog"):
                    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        path = DOCS / "images" / f"{name.replace('_', '-')}.png"
        figure.savefig(path, dpi=110, facecolor="white")


def _curve(axes: Any, rows: Rows, pattern: str, label: str, colour: int, style: str = "-") -> None:
    points = [
        (float(found[1]), row["value"], row["spread"] if row["n"] > 2 else 0.0)
        for name, row in rows.items()
        if (found := re.fullmatch(pattern, name))
    ]
    if not points:
        return
    x, y, spread = zip(*sorted(points), strict=True)
    axes.errorbar(
        x, y, spread, fmt=f"o{style}", color=REPAIRS[colour], markersize=3, capsize=2, label=label,
    )  # fmt: skip


if __name__ == "__main__":
    main()
