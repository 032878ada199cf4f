"""Download a data set: resumes where it stopped, checks what came, then puts it in place."""

from __future__ import annotations

import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from rramhil.nn.data import DataError, Source, data_folder, find_source, is_complete, read_checked

CHUNK_BYTES = 1 << 16
TIMEOUT_SECONDS = 30.0

Progress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes so far, bytes in all or None where the server does not say)."""


def fetch(
    name: str,
    folder: Path | None = None,
    *,
    base: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download what is missing of `name` and return its folder, every file checked.

    `folder`: the data folder (see `data_folder`). `base`: another address that serves the
    same files. What a broken download left (`*.part`) is resumed with a range request.
    Raises `DataError` when the server cannot be reached, the folder cannot be written, or
    what came is not the published file (which is then deleted).
    """
    if name == "digits":
        raise DataError("digits comes with the package; there is nothing to fetch")
    source = find_source(name)
    target = data_folder(folder) / source.name
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file in source.download:
            if not is_complete(source, target) and not (target / file).is_file():
                part = _download(base or source.base, file, target, progress or _silent)
                _put_in_place(source, part, file)
        _check_all(source, target)
    except OSError as error:
        raise DataError(
            f"{name} cannot be stored in {target} ({error.strerror or error}); name a folder with "
            f"{source.megabytes:.0f} MB of room that you may write to"
        ) from None
    return target


def _silent(name: str, so_far: int, total: int | None) -> None:
    return None


def _download(base: str, file: str, target: Path, progress: Progress) -> Path:
    """`file` from `base` into `file`.part, continuing one that is there."""
    address = f"{base.rstrip('/')}/{file}"
    part = target / f"{file}.part"
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            _receive(answer, part, have, file, progress)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise DataError(
                f"{address} answers {error.code} {error.reason}; {_OTHERWISE}"
            ) from None
        # Nothing beyond what is there: the part is complete, and the check decides.
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"{address} cannot be fetched ({reason}); run the same command again to resume, or "
            f"{_OTHERWISE}"
        ) from None
    return part


_OTHERWISE = "give another address that serves this file, or copy it into the data folder yourself"


def _receive(answer: HTTPResponse, part: Path, have: int, file: str, progress: Progress) -> None:
    """Append to `part` where the server honours the range, else write it anew."""
    resumed = answer.status == HTTPStatus.PARTIAL_CONTENT
    so_far = have if resumed else 0
    length = answer.headers.get("Content-Length")
    total = so_far + int(length) if length is not None else None
    with part.open("ab" if resumed else "wb") as stream:
        while chunk := answer.read(CHUNK_BYTES):
            stream.write(chunk)
            so_far += len(chunk)
            progress(file, so_far, total)
    if total is not None and so_far < total:
        raise ConnectionError(f"broken off after {so_far} of {total} bytes")


def _put_in_place(source: Source, part: Path, file: str) -> None:
    final = part.with_name(file)
    if not file.endswith(".tar.gz"):
        part.replace(final)
        return
    wanted = {data_file.name for data_file in source.files}
    try:
        with tarfile.open(part) as archive:
            for member in archive:
                name = Path(member.name).name
                content = archive.extractfile(member) if name in wanted else None
                if content is not None:
                    part.with_name(name).write_bytes(content.read())
    except (tarfile.TarError, EOFError) as error:
        part.unlink()
        raise DataError(f"{file} is damaged ({error}); fetch it again") from None
    part.unlink()


def _check_all(source: Source, target: Path) -> None:
    for file in source.files:
        try:
            read_checked(source, target, file)
        except DataError:
            for path in target.glob(f"{file.name}*"):
                path.unlink()
            raise
