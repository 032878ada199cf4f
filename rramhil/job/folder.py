"""Where a run lives on disk: its result, its job, its arrays, its events, its report."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import ValidationError

from rramhil.job.file import JobFile
from rramhil.job.result import RunResult
from rramhil.schema import FileError, check, load_toml
from rramhil.station import home
from rramhil.words import nearest


def runs_folder() -> Path:
    """The folder of all runs."""
    return home() / "runs"


def new_run_id(name: str) -> str:
    """A run's id: when, what, and four random digits, so that it sorts by time."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{name}-{token_hex(2)}"


class RunFolder:
    """The files of one run. Every file is written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, run: str) -> RunFolder:
        """A new folder for `run`. Raises `FileError` when it cannot be made."""
        path = runs_folder() / run
        try:
            (path / "arrays").mkdir(parents=True)
        except OSError as error:
            raise FileError(
                f"the run's folder {path} cannot be made ({error.strerror}); "
                "set RRAMHIL_HOME to a folder that you may write to"
            ) from None
        return cls(path)

    @classmethod
    def find(cls, run: str) -> RunFolder:
        """The folder of a run by id, by unique beginning, or 'last'. Raises `FileError`."""
        names = run_ids()
        if run == "last" and names:
            return cls(runs_folder() / names[-1])
        matches = [run] if run in names else [n for n in names if n.startswith(run)]
        if len(matches) == 1:
            return cls(runs_folder() / matches[0])
        if matches:
            raise FileError(f"{run!r} could be {', '.join(matches[:4])}; write more of the id")
        hint = nearest(run, names[-5:]) if names else "; there are no runs yet"
        raise FileError(f"there is no run {run!r} in {runs_folder()}{hint}")

    @contextmanager
    def locked(self, run: str) -> Iterator[None]:
        """Hold the run: no other process may carry it out meanwhile. Raises `FileError`."""
        lock = FileLock(self.path / "run.lock")
        holder = self.path / "run.pid"
        try:
            lock.acquire(timeout=0)
        except Timeout:
            pid = holder.read_text(encoding="ascii").strip() if holder.exists() else "not known"
            raise FileError(
                f"the run {run} is being carried out by process {pid}; wait for it or stop it"
            ) from None
        try:
            holder.write_text(str(os.getpid()), encoding="ascii")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def save_job(self, job: JobFile, text: str) -> None:
        """Keep the job: as it was written, and with its paths resolved."""
        self.write("job.toml", text.encode())
        self.write("job.json", job.model_dump_json(indent=1).encode())

    def save_result(self, result: RunResult) -> None:
        """Write result.json."""
        self.write("result.json", result.model_dump_json(indent=2).encode())

    def load_result(self) -> RunResult:
        """Read result.json. Raises `FileError` when it is missing or of another version.

        A home that was moved or copied takes its ledgers with it, so paths are those beside
        the folder where they exist there.
        """
        path = self.path / "result.json"
        try:
            result = RunResult.model_validate_json(path.read_text(encoding="utf-8"))
            return self._relocated(result)
        except (OSError, ValidationError) as error:
            raise FileError(f"{path} is not a run's result ({type(error).__name__})") from None

    def _relocated(self, result: RunResult) -> RunResult:
        here = self.path.resolve()
        if not result.ledger or Path(result.folder) == here:
            return result
        moved = (here / os.path.relpath(result.ledger, result.folder)).resolve()
        report = str(here / "report.html") if result.report else None
        ledger = str(moved) if moved.exists() else result.ledger
        return result.model_copy(update={"folder": str(here), "ledger": ledger, "report": report})

    def load_job(self) -> JobFile:
        """The job as it was started, its paths resolved."""
        path = self.path / "job.json"
        if not path.exists():
            return load_toml(self.path / "job.toml", JobFile)
        return check(json.loads(path.read_text(encoding="utf-8")), JobFile, str(path))

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the run, replacing it as a whole."""
        path = self.path / name
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_bytes(content)
        draft.replace(path)

    def save_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> str:
        """Write `arrays` as arrays/`name`.npz and return that name."""
        relative = f"arrays/{name}.npz"
        path = self.path / relative
        draft = path.with_name(f".{name}.{os.getpid()}.npz")
        np.savez_compressed(draft, allow_pickle=False, **arrays)
        draft.replace(path)
        return relative

    def load_arrays(self, relative: str) -> dict[str, NDArray[Any]]:
        """The arrays of a file that `save_arrays` wrote."""
        with np.load(self.path / relative, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}


def run_ids() -> list[str]:
    """Ids of all runs, oldest first."""
    folder = runs_folder()
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if (p / "result.json").is_file())
