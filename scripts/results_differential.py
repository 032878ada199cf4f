"""Table and picture of the differential mapping, from the rows of `scripts/bench differential`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure

from rramhil.report.style import REPAIRS

Rows = dict[str, dict[str, Any]]
CASES = {
    "lenet5_pruned_ends": "LeNet-5 pruned",
    "lenet5_dense_ends": "LeNet-5 dense",
    "lenet5_against_dense_ends": "differential pruned against two columns dense",
    "lenet5_pruned_opposite_ends": "LeNet-5 pruned, opposite polarity",
    "lenet5_pruned_clipped_ends": "LeNet-5 pruned, weights clipped at their 99.5th percentile",
    "lenet5_pruned_die": "LeNet-5 pruned, stuck cells as on emulated dies",
    "resnet20_pruned_ends": "ResNet-20 on CIFAR-10, pruned",
}
ASKED = 7


def table(rows: Rows) -> Iterable[str]:
    """Tolerable rates and their ratio, then clean accuracy and current, then variation."""
    yield "| case | two columns, % | differential, % | ratio | 95 % interval | dies |"
    yield "|---|---|---|---|---|---|"
    for case, told in CASES.items():
        ratio = rows.get(f"{case}_failure_rate_ratio")
        if ratio is None:
            continue
        two, other = (rows[f"{case}_{m}_rate"]["value"] for m in ("two_column", "differential"))
        ends = (rows[f"{case}_failure_rate_ratio_{end}"]["value"] for end in ("low", "high"))
        yield (
            f"| {told} | {100 * two:.3g} | {100 * other:.3g} | {ratio['value']:.2g} | "
            f"{' to '.join(f'{end:.2g}' for end in ends)} | {ratio['n']} |"
        )
    yield "\n| case | mapping | no stuck cell, % right | mean cell, uS | times the current |"
    yield "|---|---|---|---|---|"
    for name, row in rows.items():
        found = re.fullmatch(r"(.*)_(two_column|differential)_cell", name)
        times = rows.get(f"{found.group(1)}_current_ratio") if found else None
        if found is None or (times is None and found.group(2) == "differential"):
            continue
        case, mapping = found.groups()
        clean = rows[f"{case}_{mapping}_clean"]["value"]
        ratio = f"{times['value']:.1f}" if times and mapping == "differential" else "1"
        yield f"| `{case}` | {mapping} | {clean:.2f} | {row['value']:.1f} | {ratio} |"
    yield from _variation(rows)
    yield from _tried(rows)


def _variation(rows: Rows) -> Iterable[str]:
    yield "\n| variation | mapping | rate of stuck cells: loss in points |"
    yield "|---|---|---|"
    for sigma in ("0.05", "0.1"):
        for mapping in ("two_column", "differential"):
            start = f"lenet5_pruned_sigma{sigma}_{mapping}_loss_at_"
            told = [
                f"{name.removeprefix(start)}: {row['value']:.2f}"
                for name, row in rows.items()
                if name.startswith(start)
            ]
            if told:
                yield f"| {sigma} | {mapping} | {', '.join(told)} |"


def _tried(rows: Rows) -> Iterable[str]:
    for network in ("lenet5-pruned", "resnet20-pruned"):
        start = f"{network}_validation_loss_at_"
        told = [
            f"{name.removeprefix(start)}: {row['value']:+.2f}"
            for name, row in rows.items()
            if name.startswith(start)
        ]
        if told:
            kept = rows[f"{network}_ratio"]["value"]
            yield (
                f"\nRatios tried for `{network}`, points lost on validation images: "
                f"{', '.join(told)}. Kept: {kept:.2f}."
            )


def draw(figure: Figure, rows: Rows) -> None:
    """Loss against failure rate: both mappings, the paper's polarity and the opposite one."""
    figure.set_size_inches(9.5, 3.2)
    axes = figure.subplots(1, 3, sharey=True)
    panels = {
        "LRS : HRS = 5.2 : 1": ("lenet5_pruned_ends", "lenet5_dense_ends"),
        "HRS : LRS = 5.2 : 1": ("lenet5_pruned_opposite_ends",),
        "ResNet-20, 5.2 : 1": ("resnet20_pruned_ends",),
    }
    for axis, (title, cases) in zip(axes, panels.items(), strict=True):
        for case, style in zip(cases, ("-", "--"), strict=False):
            for index, mapping in enumerate(("two_column", "differential")):
                label = mapping if style == "-" else f"{mapping}, dense"
                _curve(axis, rows, f"{case}_{mapping}", label, index, style)
        axis.axhline(1, linewidth=0.6, color="0.6")
        axis.set(title=title, xlabel="stuck cells", xscale="log", yscale="symlog")
        axis.set_ylim(-0.5, 100)
    axes[0].set_ylabel("loss, points")
    axes[0].legend(fontsize=7)


def _curve(axis: Any, rows: Rows, start: str, label: str | None, index: int, style: str) -> None:
    points = sorted(
        (float(name.rsplit("_", 1)[1]), row["value"], row["spread"] or 0.0)
        for name, row in rows.items()
        if name.startswith(f"{start}_loss_at_")
    )
    if not points:
        return
    rates, losses, spreads = zip(*points, strict=True)
    axis.errorbar(
        rates, losses, spreads, linestyle=style, color=REPAIRS[index], label=label, capsize=2
    )
