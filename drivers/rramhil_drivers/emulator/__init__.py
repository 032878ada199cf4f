"""The default device: a software-emulated RRAM die.

    with rramhil.connect("emulator:40nm?die=7&seed=1") as device: ...

Presets are chip files that come with rramhil (`40nm`, `wide`, `ember`, `statistical`); a file of
your own is named by its path, `emulator:./my.toml`. Importing this module imports no emulator.
"""

from __future__ import annotations

from rramhil.device import Address, Device, Driver


def _open(address: Address) -> Device:
    from rramhil_drivers.emulator.opening import open_die

    return open_die(address)


driver = Driver(
    summary="a software-emulated die on a virtual clock",
    example="emulator:40nm?die=7",
    open=_open,
    options={
        "die": "number of the die: fixes its cells and their faults (default 0)",
        "seed": "seed of everything that is noise (default 0)",
        "tiles": "tiles of the die (default: those of the chip file)",
        "state": "folder that keeps the die between runs (default: born new for each run)",
        "formed": "yes: formed and RESET once at wafer test; no: virgin cells (default yes)",
        "stuck_lrs": "share of cells stuck in the low-resistance state",
        "stuck_hrs": "share of cells stuck in the high-resistance state",
        "stuck_rows": "share of rows that carry a cluster of stuck cells",
        "converter_noise": "factor on the noise of the product's converter (default 1)",
        "sigma": "statistical chips only: width of the write error",
        "disturb": "statistical chips only: hops of a cell in a million readings (default 0)",
        "law": "statistical chips only: multiplicative, lognormal or share_of_range",
    },
    faults=frozenset({"stuck_lrs", "stuck_hrs", "stuck_rows"}),
    volatile=True,
)
