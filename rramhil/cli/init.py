"""`rramhil init`: a commented job file and station file to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rramhil.cli.errors import UsageError
from rramhil.cli.options import Json
from rramhil.cli.terminal import Terminal

JOB = """\
# A job: which device, which network, which data, how it is mapped, and which steps.
# Run it with:  rramhil run job.toml
# A quantity is a number in SI or a text with its unit: 20e-6 and "20 uS" are the same.
# What is commented out stands at its default.

name = "my-job"             # letters, digits, dots, dashes: it becomes part of each run's id
seed = 0                    # of everything that the host draws: samples, masks, batches

[device]
address = "emulator:40nm?die=7"   # `rramhil devices` lists what else there is
# station = "station.toml"        # limits of the bench; needed before real silicon is pulsed

[network]
name = "digits"             # one that comes with rramhil, or the path of a .safetensors file

[data]
name = "digits"             # `rramhil data list`; its split is the one of the network's training
# folder = "data"           # where fetched sets lie (default: RRAMHIL_DATA)

[mapping]
scheme = "two_column"       # or "differential", "one_column", ...: docs/mapping.md
levels = 10                 # conductances a cell can be written to, evenly spaced
lowest = "20 uS"
highest = "200 uS"
tolerance = "5 uS"          # a cell is at its level within +- this
percentile = 99.5           # of |w| of a layer: its scale; weights beyond are clipped
scale = "layer"             # or "column": a scale for each column, kept digitally

[writing]                   # the pulses of this technology
set_volts = "2.0 V"         # bit line of a SET; its gate voltage is the level's, from `tune`
set_seconds = "100 ns"
reset_volts = "2.3 V"       # source line of the first RESET; rises while a cell stays too high
reset_step_volts = "0.1 V"
reset_stop_volts = "3.6 V"
reset_gate_volts = "4.0 V"
reset_seconds = "100 ns"

[[steps]]
do = "scan"                 # stuck and noisy cells
reads = 3

# [[steps]]                 # only for a die that was never formed
# do = "form"

[[steps]]
do = "tune"                 # the gate voltage of each level on this die, from a sample of cells
cells = 128

[[steps]]
do = "program"
how = "open_loop"           # one RESET and one SET a cell; "verify" uses a recipe at once

[[steps]]
do = "evaluate"             # on the test images, from conductances read after `delay`
name = "open_loop"
delay = "1 s"

[[steps]]
do = "recover"              # gains, biases and a few weights in digital memory, by least squares
method = "closed_form"
fraction = 0.05             # of the weights; `mask` says which ("errx")
images = 128                # unlabelled, of the calibration set

[[steps]]
do = "recover"              # random sparse adaptation: no cell is written again
method = "rsa"
fraction = 0.05             # of each layer's weights go into digital memory

[[steps]]
do = "recover"              # read-verify-write of every cell outside its window
method = "rvw"
recipe = { algorithm = "sdr" }    # or "ispp", "fppv"

[[steps]]
do = "report"               # one HTML file in the run's folder
"""

STATION = """\
# A station: what your bench allows, beyond what the chip itself does. A call outside is
# refused before anything is sent, never clamped, and the refusal names this file's limit.
# Use it with:  rramhil run job.toml --station station.toml

name = "my bench"
# address = "serial:/dev/ttyUSB0"
# ledger = "ledgers"        # folder beside this file; each die keeps its record in its own

# [conductance]             # a cell that was read beyond gets no pulse further outward. A step
# lowest = "0.5 uS"         # that pulses every cell, as `scan` does, is refused where one cell
# highest = "300 uS"        # lies beyond: widen these, or leave this out

[budget]                    # what one cell may suffer in the life of the die
pulses = 100000
# volt_seconds = 2.0        # sum of voltage x width, of pulses from `high_volts` on
# high_volts = "2.5 V"

[pulses.set]                # [lowest, highest] of each setting, within the chip's own limits
volts = ["0 V", "3.0 V"]
gate_volts = ["0 V", "4.0 V"]
seconds = ["100 ns", "10 us"]

[pulses.reset]
volts = ["0 V", "4.0 V"]
gate_volts = ["0 V", "4.0 V"]
seconds = ["100 ns", "10 us"]

[pulses.form]
allowed = false             # a die is formed once; allow it when you mean it

# [barred]                  # never pulsed: `scan` leaves them out; a network that lies on one of
#                           # them is refused, unless the job has [mapping] around_faults = true
# cells = [[0, 12, 7]]      # tile, row, column
# rows = [[0, 200]]         # tile, row
"""

FILES = {"job.toml": JOB, "station.toml": STATION}


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to; made if it does not exist.")
    ] = Path("."),
    json: Json = False,
) -> None:
    """Write a commented job.toml and station.toml to start from; nothing is overwritten."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file; name a folder, which is made if it does not exist")
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        raise UsageError(f"{folder / there[0]} exists and is not overwritten; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    paths = [folder / name for name in FILES]
    job = paths[0]
    terminal = Terminal(json=json)
    terminal.answer(
        {"files": paths},
        lambda out: out.print("\n".join(map(str, paths)), markup=False, soft_wrap=True),
    )
    terminal.say(f"next: rramhil run {job}")
