"""The only writer of a die's ledger: appends, chains, commits, and never changes a row.

Durability. On a die that is not volatile a commit is one fsync of the write-ahead log; only
`append(..., commit=True)`, `note`, `flush` and the ends of a run commit at once. What is
appended otherwise waits in the open transaction, at most `HOLD_SECONDS`, and so shares the
next commit: an outcome and the readings after it cost no fsync of their own. On a volatile die
a commit is not synced, because what it records dies with the process anyway.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rramhil.device import Spec
from rramhil.ledger.schema import (
    COLUMNS,
    FILE_NAME,
    GENESIS,
    Entry,
    LedgerError,
    check_not_empty,
    check_schema,
    create_tables,
    next_hash,
)
from rramhil.ledger.specs import plain
from rramhil.ledger.states import drop_old_states, save_state

HOLD_SECONDS = 0.25
NETWORK_FILE_SYSTEMS = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "ncpfs",
        "afs",
        "ceph",
        "lustre",
        "glusterfs",
        "gpfs",
        "beegfs",
        "ocfs2",
        "gfs2",
        "davfs",
        "fuse.sshfs",
        "fuse.davfs",
        "fuse.glusterfs",
        "fuse.ceph",
        "fuse.s3fs",
        "fuse.rclone",
    ]
)
_INSERT = (
    f"INSERT INTO entries ({', '.join(COLUMNS)}, hash, body) "
    f"VALUES ({', '.join('?' * (len(COLUMNS) + 2))})"
)


class Ledger:
    """The open ledger of one die, for one process at a time. Use `Ledger.open`.

    `row` and `head` are the number and the hash (hex) of the last row; `commits` and
    `commit_wait_seconds` count the synced commits and the time spent waiting for the disk.
    """

    def __init__(
        self, folder: Path, serial: str, volatile: bool, lock: FileLock, db: sqlite3.Connection
    ) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        self.serial = serial
        self.volatile = volatile
        self.run = ""
        self.session = 0
        self.commits = 0
        self.commit_wait_seconds = 0.0
        self._file_lock = lock
        self._db: sqlite3.Connection | None = db
        self._broken: str | None = None
        self._turn = threading.RLock()
        self._pending = threading.Event()
        self._closing = threading.Event()
        self._row, self._head, self._in_step = 0, GENESIS, False
        self._sync_with_disk()
        self._committer = threading.Thread(target=self._commit_late, daemon=True)
        self._committer.start()

    @classmethod
    def open(cls, folder: Path | str, serial: str, *, volatile: bool = False) -> Ledger:
        """Open or create the ledger of die `serial` in `folder` and lock it for this process.

        Raises `LedgerError` in one sentence: a folder that cannot be written, a network file
        system, another writer, another die's ledger, a newer schema, a file of another kind.
        """
        folder = Path(folder)
        lock = _lock(folder, serial)
        try:
            db = _connect(folder, serial, volatile)
            try:
                return cls(folder, serial, volatile, lock, db)
            except BaseException:
                db.close()
                raise
        except BaseException:
            lock.release()
            raise

    @property
    def head(self) -> str:
        """The hash of the last row, hex. It stands for the whole ledger up to here."""
        return self._head.hex()

    @property
    def broken(self) -> str | None:
        """Why nothing can be written any more, in one sentence; None while all is well."""
        return self._broken

    @property
    def states(self) -> Path:
        """The folder for the saved states of a volatile die."""
        return self.folder / "states"

    # ------------------------------------------------------------------ appending

    def append(self, entry: Entry, *, commit: bool = False) -> int:
        """Append one row and return its number. Raises `LedgerError` when it was not written."""
        with self._turn:
            db = self._open_db()
            if not self._in_step:
                self._sync_with_disk()
            row = self._row + 1
            columns = self._columns(row, entry)
            head = next_hash(self._head, columns, entry.body)
            self._in_step = False
            try:
                if not db.in_transaction:
                    db.execute("BEGIN IMMEDIATE")
                db.execute(_INSERT, (*columns, head, entry.body))
            except sqlite3.Error as error:
                self._keep_what_stands(db)
                raise self._break(error) from None
            self._row, self._head, self._in_step = row, head, True
            if commit:
                self._commit()
            elif not self._pending.is_set():
                self._pending.set()
            return row

    def begin_run(
        self,
        run: str,
        spec: Spec,
        header: Mapping[str, Any] | None = None,
        device_time: float | None = None,
        continues: int | None = None,
    ) -> int:
        """Start a session of `run`: what the die allows, and `header` (JSON data), are recorded.

        The number of the row is the number of the session. A run that is resumed has several.
        `continues`: a volatile die was rebuilt as it was at that row, and goes on from there, in
        a life of its own: what the ledger holds after that row did not happen to it. Raises
        `LedgerError` for a die that cannot go back, or a row that is not there.
        """
        with self._turn:
            data: dict[str, Any] = {"newborn": spec.newborn, "spec": spec, "header": header or {}}
            if continues is not None:
                self._check_way_back(spec, continues)
                data |= {"newborn": True, "continues": continues}
            self.run, self.session = run, self.row + 1
            begin = Entry("begin", before=device_time, after=device_time, data=data)
            return self.append(begin, commit=True)

    def _check_way_back(self, spec: Spec, row: int) -> None:
        if spec.newborn or not spec.volatile:
            raise LedgerError(
                f"die {self.serial} cannot go on from row {row} of its ledger: only a volatile die "
                "that was rebuilt to that row can; leave continues out"
            )
        if not 0 < row <= self.row:
            raise LedgerError(
                f"die {self.serial} cannot go on from row {row} of {self.path}, which has the rows "
                f"1 to {self.row}; name one of them"
            )

    def end_run(
        self, outcome: str, data: Mapping[str, Any] | None = None, body: bytes | None = None
    ) -> int:
        """End the session, with the outcome in a word or sentence, other JSON data, and arrays."""
        with self._turn:
            if not self.session:
                raise LedgerError(f"no session of die {self.serial} is open, so none can be ended")
            more = {"outcome": outcome, **(data or {})}
            row = self.append(Entry("end", data=more, body=body), commit=True)
            self.run, self.session = "", 0
            return row

    def note(self, event: str, data: Mapping[str, Any] | None = None) -> int:
        """Record an event of the session (JSON data), and commit."""
        entry = Entry("note", data={"event": event, **(data or {})})
        return self.append(entry, commit=True)

    def save_state(self, state: bytes, at: float | None = None) -> int:
        """Keep the state of a volatile die in `states` and record it; `at`: device seconds."""
        with self._turn:
            self._open_db()
            data = save_state(self.states, self.row + 1, state)
            row = self.append(Entry("state", before=at, after=at, data=data), commit=True)
            drop_old_states(self.states, row)
            return row

    @property
    def row(self) -> int:
        """The number of the last row, 0 in an empty ledger."""
        return self._row

    def flush(self) -> None:
        """Commit what waits."""
        with self._turn:
            self._open_db()
            self._commit()

    def close(self) -> None:
        """Commit, fold the write-ahead log into the file, let go of the lock. Callable twice."""
        try:
            with self._turn:
                if self._db is not None:
                    self._closing.set()
                    self._let_go(self._db)
        finally:
            self._pending.set()
            if threading.current_thread() is not self._committer:
                self._committer.join(timeout=5)

    def _let_go(self, db: sqlite3.Connection) -> None:
        try:
            if self._broken is None:
                self._commit()
                self._leave_wal(db)
        finally:
            db.close()
            self._db, self.run, self.session = None, "", 0
            (self.folder / "ledger.pid").unlink(missing_ok=True)
            self._file_lock.release()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ------------------------------------------------------------------ inside

    def _columns(self, row: int, entry: Entry) -> tuple[Any, ...]:
        data = None
        if entry.data is not None:
            data = json.dumps(plain(entry.data), separators=(",", ":"), allow_nan=False)
        return (
            row, self.run, self.session, entry.op, entry.phase, entry.intent, entry.kind,
            int(entry.cells), _real(entry.min_volts), _real(entry.max_volts),
            _real(entry.seconds), _real(entry.volt_seconds), _real(entry.before),
            _real(entry.after), time.time(), data,
        )  # fmt: skip

    def _open_db(self) -> sqlite3.Connection:
        if self._broken is not None:
            raise LedgerError(self._broken)
        if self._db is None:
            raise LedgerError(f"the ledger of die {self.serial} is closed; open the device again")
        return self._db

    def _sync_with_disk(self) -> None:
        assert self._db is not None
        last = self._db.execute("SELECT row, hash FROM entries ORDER BY row DESC LIMIT 1")
        self._row, self._head = last.fetchone() or (0, GENESIS)
        self._in_step = True
        if self._row == 0:
            self.append(Entry("create", data={"serial": self.serial}), commit=True)

    def _commit(self) -> None:
        db = self._db
        if db is None or not db.in_transaction:
            self._pending.clear()
            return
        began, worked = time.perf_counter(), time.thread_time()
        try:
            db.execute("COMMIT")
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise self._break(error) from None
        finally:
            waited = (time.perf_counter() - began) - (time.thread_time() - worked)
            self.commit_wait_seconds += max(0.0, waited)
            self.commits += not self.volatile
            self._pending.clear()

    def _keep_what_stands(self, db: sqlite3.Connection) -> None:
        """After a failed insert: the rows before it in the transaction may still fit."""
        if not db.in_transaction:
            return
        try:
            db.execute("COMMIT")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")

    def _break(self, error: sqlite3.Error) -> LedgerError:
        self._broken = (
            f"the ledger of die {self.serial} at {self.path} cannot be written ({error}); make "
            "room or repair the disk, then open the device again"
        )
        return LedgerError(self._broken)

    def _commit_late(self) -> None:
        while self._pending.wait() and not self._closing.wait(HOLD_SECONDS):
            with self._turn:
                if self._broken is None and self._db is not None and self._pending.is_set():
                    try:
                        self._commit()
                    except LedgerError:
                        return

    def _leave_wal(self, db: sqlite3.Connection) -> None:
        """A file without its -wal beside it is whole, so that copying it is enough."""
        try:
            db.execute("PRAGMA busy_timeout = 100")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            db.execute("PRAGMA journal_mode = DELETE").fetchall()
        except sqlite3.OperationalError:
            return  # a reader has it open: the write-ahead log stays, and stays valid


def _real(value: float | None) -> float | None:
    """What a REAL column gives back: a float, and None for NaN."""
    if value is None or value != value:
        return None
    return float(value)


def _lock(folder: Path, serial: str) -> FileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_network(folder)
        lock = FileLock(folder / "ledger.lock", thread_local=False)
        lock.acquire(timeout=0)
        (folder / "ledger.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
        return lock
    except Timeout:
        raise LedgerError(
            f"die {serial} is in use by process {_holder(folder)} (ledger in {folder}); wait for "
            "it or stop it"
        ) from None
    except OSError as error:
        raise LedgerError(
            f"the folder {folder} for the ledger of die {serial} cannot be written "
            f"({error.strerror or error}); choose another folder"
        ) from None


def _holder(folder: Path) -> str:
    try:
        return (folder / "ledger.pid").read_text(encoding="ascii").strip() or "unknown"
    except OSError:
        return "unknown"


def _refuse_network(folder: Path, mounts: Path = Path("/proc/mounts")) -> None:
    kind = file_system(folder, mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise LedgerError(
            f"{folder} lies on a network file system ({kind}), where a ledger cannot be kept "
            "safely; choose a folder on a local disk"
        )


def file_system(folder: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of the file system that holds `folder`, '' where the system does not say."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    target, best, kind = str(folder.resolve()), "", ""
    for fields in (line.split() for line in lines):
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def _connect(folder: Path, serial: str, volatile: bool) -> sqlite3.Connection:
    path = folder / FILE_NAME
    try:
        _create_if_missing(path)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(
            f"the ledger of die {serial} at {path} cannot be opened ({error}); make room, repair "
            "it or choose another folder"
        ) from None
    try:
        check_schema(db, path)
        db.execute("PRAGMA journal_mode = WAL").fetchall()
        db.execute(f"PRAGMA synchronous = {'NORMAL' if volatile else 'FULL'}")
        db.execute("PRAGMA wal_autocheckpoint = 4096")
        db.execute("PRAGMA trusted_schema = OFF")
        _check_serial(db, path, serial)
    except sqlite3.Error as error:
        db.close()
        raise LedgerError(
            f"the ledger of die {serial} at {path} cannot be written ({error}); make room, repair "
            "it or choose another folder"
        ) from None
    except BaseException:
        db.close()
        raise
    return db


def _create_if_missing(path: Path) -> None:
    """Make the ledger under another name and move it there: a kill leaves none or a whole one."""
    check_not_empty(path)
    if path.exists():
        return
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise LedgerError(
            f"the ledger {path} is missing but its log {log.name} is there; restore the ledger "
            "from a copy, or move the log away to begin a new history"
        )
    new = path.with_name(path.name + ".new")
    for left_over in (new, new.with_name(new.name + "-journal")):
        left_over.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
        db.execute("PRAGMA page_size = 4096")
        db.execute("PRAGMA synchronous = FULL")
        create_tables(db)
    new.replace(path)


def _check_serial(db: sqlite3.Connection, path: Path, serial: str) -> None:
    first = db.execute("SELECT json_extract(data, '$.serial') FROM entries WHERE row = 1")
    found = first.fetchone()
    if found is not None and found[0] != serial:
        raise LedgerError(
            f"{path} is the ledger of die {found[0]!r}, not of {serial!r}; choose another folder"
        )
