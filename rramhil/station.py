"""connect(): a bare device, its lease, its ledger, the limits of the bench, and its doubts.

    with rramhil.connect("emulator:40nm?die=7", station="bench.toml") as device: ...

What comes back is the bare device inside a lease, inside a guard, inside a journal. The journal
is outermost, so that refusals are recorded too. Nothing is pulsed before the lease on the die's
serial is held: one chip has several addresses, so an address is no lease. All of them live in a
process of their own where the device is real (`rramhil.process`, docs/processes.md).

A station file says what a bench allows, beyond what the chip itself does:

    name = "bench 3"
    address = "serial:/dev/ttyUSB0"
    ledger = "ledgers"               # folder, beside this file; each die has its own in it

    [conductance]                    # a cell read beyond gets no pulse further outward
    lowest = "0.5 uS"
    highest = "300 uS"

    [budget]                         # a cell, for the life of the die
    pulses = 100000
    volt_seconds = 2.0
    high_volts = "2.5 V"

    [pulses.set]
    volts = ["0 V", "3.0 V"]
    seconds = ["100 ns", "10 us"]

    [pulses.form]
    allowed = false

    [barred]
    cells = [[0, 12, 7]]             # tile, row, column
    rows = [[0, 200]]                # tile, row
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any
from urllib.parse import quote

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_data_dir
from pydantic import Field, model_validator

from rramhil.address import is_volatile, open_device
from rramhil.connected import Connected
from rramhil.device import Cells, Device, Kind, Outputs, Refused, Spec
from rramhil.guard import Budget, Guard, PulseSpans, StationLimits
from rramhil.journal import Journal
from rramhil.ledger import HIGH_VOLTS, Ledger, LedgerReader
from rramhil.rebuild import rebuild
from rramhil.schema import Amps, FileError, Seconds, Siemens, Strict, Volts, load_toml
from rramhil.versions import versions
from rramhil.words import nearest
from rramhil.wrap import Wrapped

FIXTURES = "rramhil_fixtures"
NAME_LENGTH = 100


# --------------------------------------------------------------------------- station files


class KindLimits(Strict):
    """[pulses.KIND]: whether the bench allows it, and [lowest, highest] of each setting."""

    allowed: bool = True
    volts: tuple[Volts, Volts] | None = None
    gate_volts: tuple[Volts, Volts] | None = None
    limit_amps: tuple[Amps, Amps] | None = None
    seconds: tuple[Seconds, Seconds] | None = None

    @model_validator(mode="after")
    def _lowest_first(self) -> KindLimits:
        for name in ("volts", "gate_volts", "limit_amps", "seconds"):
            span = getattr(self, name)
            if span is not None and span[0] > span[1]:
                raise ValueError(f"{name} runs from {span[0]:g} to {span[1]:g}; lowest first")
        return self

    def spans(self) -> PulseSpans:
        """The ranges as the guard takes them."""
        return PulseSpans(self.volts, self.gate_volts, self.limit_amps, self.seconds)


class PulseSection(Strict):
    """[pulses]: the tighter limits for each kind of pulse."""

    set: KindLimits = KindLimits()
    reset: KindLimits = KindLimits()
    form: KindLimits = KindLimits()


class ConductanceSection(Strict):
    """[conductance]: cells read at or beyond these get no pulse further outward."""

    lowest: Siemens | None = None
    highest: Siemens | None = None


class BudgetSection(Strict):
    """[budget]: what one cell may suffer in the life of the die."""

    pulses: Annotated[int, Field(ge=0)] | None = None
    volt_seconds: Annotated[float, Field(ge=0)] | None = None
    high_volts: Volts = HIGH_VOLTS


class BarredSection(Strict):
    """[barred]: cells (tile, row, column) and rows (tile, row) that are never pulsed."""

    cells: tuple[tuple[int, int, int], ...] = ()
    rows: tuple[tuple[int, int], ...] = ()


class Station(Strict):
    """What a bench allows. `ledger`: the folder in which each of its dies has its own."""

    name: str
    address: str | None = None
    ledger: Path | None = None
    conductance: ConductanceSection = ConductanceSection()
    budget: BudgetSection = BudgetSection()
    pulses: PulseSection = PulseSection()
    barred: BarredSection = BarredSection()

    def limits(self, spec: Spec, whose: str = "") -> StationLimits:
        """The limits for a die of `spec`; refusals say that they are `whose`.

        Raises `Refused` for barred cells that the die does not have.
        """
        kinds = {kind: getattr(self.pulses, kind.value) for kind in Kind}
        allowed = frozenset(kind for kind, limits in kinds.items() if limits.allowed)
        spans = {kind: limits.spans() for kind, limits in kinds.items()}
        return StationLimits(
            whose=whose or f"station {self.name}",
            kinds=None if allowed == frozenset(Kind) else allowed,
            spans={kind: span for kind, span in spans.items() if span != PulseSpans()},
            budget=Budget(self.budget.pulses, self.budget.volt_seconds, self.budget.high_volts),
            lowest=self.conductance.lowest,
            highest=self.conductance.highest,
            barred=self._barred(spec),
        )

    def _barred(self, spec: Spec) -> Cells:
        cells = [spec.cells(*cell) for cell in self.barred.cells]
        rows = [spec.cells(tile, row, np.arange(spec.cols)) for tile, row in self.barred.rows]
        return np.unique(np.concatenate([*cells, *rows, np.empty(0, dtype=np.int64)]))


def shipped_stations() -> list[str]:
    """Names of the station files that come with rramhil."""
    folder = files(FIXTURES) / "stations"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith("toml"))


def load_station(name: str | Path) -> tuple[Station, str]:
    """A station by path or by the name of a shipped one, and how refusals name its limits.

    A relative `ledger` folder lies beside the file. Raises `FileError` in one sentence.
    """
    path = Path(name)
    if not path.suffix and not path.exists():
        if str(name) not in shipped_stations():
            near = nearest(str(name), shipped_stations())
            raise FileError(f"there is no station file {str(name)!r}{near}")
        path = Path(str(files(FIXTURES) / "stations" / f"{name}.toml"))
    station = load_toml(path, Station)
    if station.ledger is not None:
        beside = path.resolve().parent / station.ledger.expanduser()
        station = station.model_copy(update={"ledger": beside})
    return station, f"station file {path.name}"


# --------------------------------------------------------------------------- places


def home() -> Path:
    """Where rramhil keeps dies, runs and leases: $RRAMHIL_HOME, else the user's data folder."""
    chosen = os.environ.get("RRAMHIL_HOME")
    return Path(chosen).expanduser() if chosen else Path(user_data_dir("rramhil"))


def file_name(serial: str) -> str:
    """A die's serial as the name of a file, one to one. Raises `Refused` for an empty one.

    >>> file_name("40nm-7"), file_name("../lot 3/die 7")
    ('40nm-7', '%2E.%2Flot%203%2Fdie%207')
    """
    name = quote(serial, safe="")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if not name or len(name) > NAME_LENGTH:
        raise Refused(
            f"the die's serial {serial[:40]!r} has {len(serial)} characters and cannot name a "
            f"folder; give the die a serial of 1 to {NAME_LENGTH // 3} characters"
        )
    return name


# --------------------------------------------------------------------------- connecting


class Leased(Wrapped):
    """A device whose die no other process on this computer has, until it is closed.

    `newborn` None leaves what the device says of itself. `holder`: the process that others are
    told of; None: this one.
    """

    def __init__(
        self, inner: Device, newborn: bool | None = None, holder: int | None = None
    ) -> None:
        super().__init__(inner)
        if newborn is not None:
            self.spec = replace(inner.spec, newborn=newborn)
        who = os.getpid() if holder is None else holder
        self._lock = None if inner.spec.volatile else _lease(inner.spec.serial, who)

    def close(self) -> None:
        """Outputs safe first; then another process may have the die."""
        try:
            self.inner.close()
        finally:
            if self._lock is not None:
                self._lock.release()


def connect(
    address: str,
    *,
    station: str | Path | Station | None = None,
    ledger: str | Path | None = None,
    run: str | None = None,
    header: Mapping[str, Any] | None = None,
    resume: bool = False,
    continues: int | None = None,
) -> Connected:
    """The device at `address`, guarded and journalled; its `spec` is final. Close it.

    `station`: a station file by path or shipped name, or a `Station`; None: the chip's own
    limits only. `ledger`: the folder of this die's ledger; by default the station's, else the
    one that keeps a volatile die, else a folder by the die's serial in `home()`. `run` and
    `header` (JSON data) stand at the head of the session, beside the versions of the software.

    A volatile die that was not born now is rebuilt from its ledger; `resume` does so for any
    volatile die: it goes on where its ledger ends, or where it was at row `continues` of it (in
    a life of its own: what came after that row did not happen to it). Cells that were left in
    doubt are read first; the ledger's row of that reading says why it was taken.

    A device that does not end with this process gets one of its own, where its outputs are
    switched off whatever this one is doing: by `abort()`, a second Ctrl-C, or its end.

    Raises `Refused` (no driver, a wrong option, a die in use, a ledger that cannot be written,
    limits that leave nothing) and `FileError` (the station file); nothing was pulsed then.
    Raises `LinkLost` or `DeviceFault` when doubtful cells cannot be read.
    """
    bench, whose = _station(station)
    if is_volatile(address):
        return connect_here(
            address,
            station=bench, whose=whose, ledger=ledger, run=run, header=header, resume=resume,
            continues=continues,
        )  # fmt: skip
    from rramhil.process.remote import Remote

    asked = {
        "address": address,
        "station": None if bench is None else bench.model_dump(mode="json"),
        "whose": whose,
        "ledger": None if ledger is None else str(ledger),
        "run": run,
        "header": dict(header or {}),
        "resume": resume,
        "continues": continues,
    }
    return Remote.start("rramhil.station:device_process", asked)


def connect_here(
    address: str,
    *,
    station: Station | None = None,
    whose: str = "",
    ledger: str | Path | None = None,
    run: str | None = None,
    header: Mapping[str, Any] | None = None,
    resume: bool = False,
    continues: int | None = None,
    wrap: Callable[[Device], Device] | None = None,
    holder: int | None = None,
) -> Journal:
    """As `connect`, in this process whatever the device is. `whose`: how refusals name the
    station. `wrap`: put around the bare device. `holder`: see `Leased`."""
    device = open_device(address)
    try:
        device = wrap(device) if wrap else device
        spec = device.spec
        goes_on = spec.volatile and (resume or continues is not None)
        device = leased = Leased(device, False if goes_on else None, holder)
        book = Ledger.open(
            _ledger_folder(spec, station, ledger), spec.serial, volatile=spec.volatile
        )
        try:
            guard = _guard(leased, book, station, whose, continues)
            head = _header(address, station, header)
            journal = Journal(guard, book, run or _unnamed(), head, continues=continues)
        except BaseException:
            book.close()
            raise
        device = journal
        journal.settle()
    except BaseException:
        device.close()
        raise
    return journal


def device_process(ends: str) -> None:
    """What the process of a device does; `ends` is what `rramhil.process.remote` left open."""
    from rramhil.process import child

    def opened(asked: Mapping[str, Any], wrap: Callable[[Device], Device]) -> Journal:
        given = dict(asked)
        address, bench = given.pop("address"), given.pop("station")
        station = None if bench is None else Station.model_validate(bench)
        return connect_here(address, station=station, wrap=wrap, holder=os.getppid(), **given)

    child.run(ends, opened, _abort_socket)


def abort(serial: str) -> Outputs:
    """Switch off the outputs of die `serial`, which another program uses; what it answered.

    That program's calls are refused from then on. Raises `Refused` when the die has no process
    of its own on this computer.
    """
    from rramhil.process.remote import abort_through

    return abort_through(_abort_socket(serial), serial)


def _abort_socket(serial: str) -> Path:
    return home() / "leases" / f"{sha256(serial.encode()).hexdigest()[:16]}.abort"


def _guard(
    leased: Leased, book: Ledger, bench: Station | None, whose: str, upto: int | None
) -> Guard:
    """The guard, after the die was brought to where its ledger says it is (was at row `upto`)."""
    limits = StationLimits(whose) if bench is None else bench.limits(leased.spec, whose)
    if leased.spec.newborn:
        return Guard(leased, limits)
    with LedgerReader(book.path) as reader:
        if not reader.sessions():
            return Guard(leased, limits)
        if leased.spec.volatile:
            rebuild(leased.inner, reader, upto)
        if limits.budget.pulses is None and limits.budget.volt_seconds is None:
            return Guard(leased, limits)
        wear = reader.wear(limits.budget.high_volts, upto)
    return Guard(leased, limits, pulses=wear.pulses, volt_seconds=wear.volt_seconds)


def _station(given: str | Path | Station | None) -> tuple[Station | None, str]:
    if given is None:
        return None, ""
    if isinstance(given, Station):
        return given, f"station {given.name}"
    return load_station(given)


def _ledger_folder(spec: Spec, bench: Station | None, given: str | Path | None) -> Path:
    if given is not None:
        return Path(given)
    if spec.home:
        return Path(spec.home)
    dies = home() / "dies" if bench is None or bench.ledger is None else bench.ledger
    return dies / file_name(spec.serial)


def _lease(serial: str, who: int) -> FileLock:
    leases = home() / "leases"
    lock = FileLock(leases / f"{file_name(serial)}.lock", thread_local=False)
    holder = leases / f"{file_name(serial)}.pid"
    try:
        leases.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        holder.write_text(f"{who}\n", encoding="ascii")
    except Timeout:
        raise Refused(
            f"die {serial} is in use by process {_read_pid(holder)}; wait for it or stop it"
        ) from None
    except OSError as error:
        raise Refused(
            f"the lease of die {serial} cannot be taken in {leases} ({error.strerror}); set "
            "RRAMHIL_HOME to a folder that you may write to"
        ) from None
    return lock


def _read_pid(holder: Path) -> str:
    try:
        return holder.read_text(encoding="ascii").strip() or "(not known)"
    except OSError:
        return "(not known)"


def _unnamed() -> str:
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-session-{token_hex(2)}"


def _header(
    address: str, bench: Station | None, header: Mapping[str, Any] | None
) -> dict[str, Any]:
    limits = None if bench is None else bench.model_dump(mode="json", exclude_defaults=True)
    return {"versions": versions(), "address": address, "station": limits, **(header or {})}
