"""Image sets: the digits that come with the package, and three that lie in a folder.

Pixels are unsigned codes, so that an array without negative inputs can take them: `pixels`
gives 0..1. A file is checked against the SHA-256 of its decompressed content each time it is
read, packed (.gz, .xz) or not.

Formats: IDX (Y. LeCun, C. Cortes, C. J. C. Burges, the MNIST page), CIFAR-10 binary version
(A. Krizhevsky, technical report, University of Toronto, 2009).
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from platformdirs import user_data_path

from rramhil.words import nearest

VARIABLE = "RRAMHIL_DATA"


class DataError(Exception):
    """A data set is missing, damaged or not to be had; one sentence with a remedy."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """`images`: uint8 codes (n, channels, height, width), 0 to `full_scale`; `labels`: (n,).

    `test_start`: images from here on are the set's own test set; None: it has none.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    full_scale: int
    test_start: int | None

    def __len__(self) -> int:
        return int(self.labels.size)

    def pixels(self, indices: ArrayLike) -> NDArray[np.float32]:
        """Pixels 0..1 of the images at `indices`, (len(indices), channels, height, width)."""
        codes = self.images[np.asarray(indices, dtype=np.int64)]
        return (codes / np.float32(self.full_scale)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file by its unpacked name, with the SHA-256 of its unpacked content."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Source:
    """A data set as files: folder below the data folder, where it is published, its terms.

    `download`: names to fetch from `base`; each is a packed file or an archive of them.
    """

    name: str
    files: tuple[DataFile, ...]
    parse: Callable[[Source, Path], DataSet]
    base: str
    download: tuple[str, ...]
    megabytes: float
    terms: str


def data_folder(chosen: Path | None = None) -> Path:
    """`chosen`, else the folder in RRAMHIL_DATA, else one in the user's data folder."""
    if chosen is not None:
        return chosen
    named = os.environ.get(VARIABLE)
    return Path(named) if named else user_data_path("rramhil") / "data"


def load_data(name: str, folder: Path | None = None) -> DataSet:
    """The data set `name` ("digits", or one below `data_folder`). Raises `DataError`."""
    if name == "digits":
        return _digits()
    source = find_source(name)
    return source.parse(source, data_folder(folder) / source.name)


def data_names() -> list[str]:
    """All data sets, the one that needs no download first."""
    return ["digits", *SOURCES]


def find_source(name: str) -> Source:
    """Where the files of `name` come from. Raises `DataError` naming the nearest set."""
    if name not in SOURCES:
        raise DataError(f"there is no data set {name!r}{nearest(name, data_names())}")
    return SOURCES[name]


def is_complete(source: Source, folder: Path) -> bool:
    """Whether all files of the set lie in its `folder` (present, not checked)."""
    return all(_find_packed(folder, file) is not None for file in source.files)


def read_checked(source: Source, folder: Path, file: DataFile) -> bytes:
    """The unpacked content of a file. Raises `DataError` if missing, unreadable or altered."""
    path = _find_packed(folder, file)
    if path is None:
        raise DataError(
            f"{source.name} is not in {folder} ({file.name} is missing); run "
            f"`rramhil data fetch {source.name}`, or set {VARIABLE} to the folder that holds "
            f"{source.name}/"
        )
    try:
        content = _UNPACK[path.suffix if path.suffix in _UNPACK else ""](path.read_bytes())
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); delete it and fetch it again") from None
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise DataError(
            f"{path} is not the published file (its SHA-256 differs); delete it and run "
            f"`rramhil data fetch {source.name}`"
        )
    return content


_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
}


def _find_packed(folder: Path, file: DataFile) -> Path | None:
    paths = (folder / f"{file.name}{suffix}" for suffix in _UNPACK)
    return next((path for path in paths if path.is_file()), None)


def _digits() -> DataSet:
    path = files("rramhil_fixtures") / "data" / "digits.npz"
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    return DataSet("digits", images[:, None], labels.astype(np.int64), 16, None)


def _idx(source: Source, folder: Path) -> DataSet:
    """IDX: a header of big-endian 32-bit integers, then one byte a pixel or label."""
    content = [read_checked(source, folder, file) for file in source.files]
    images = [np.frombuffer(c, np.uint8, offset=16).reshape(-1, 1, 28, 28) for c in content[0::2]]
    labels = [np.frombuffer(c, np.uint8, offset=8) for c in content[1::2]]
    return DataSet(
        source.name,
        np.concatenate(images),
        np.concatenate(labels).astype(np.int64),
        full_scale=255,
        test_start=len(labels[0]),
    )


def _cifar(source: Source, folder: Path) -> DataSet:
    """Records of one label byte and three planes of 32 x 32 bytes; the last file is the test."""
    content = b"".join(read_checked(source, folder, file) for file in source.files)
    records = np.frombuffer(content, np.uint8).reshape(-1, 3073)
    return DataSet(
        source.name,
        records[:, 1:].reshape(-1, 3, 32, 32),
        records[:, 0].astype(np.int64),
        full_scale=255,
        test_start=50_000,
    )


_MNIST = (
    DataFile(
        "train-images-idx3-ubyte",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    DataFile(
        "train-labels-idx1-ubyte",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    DataFile(
        "t10k-images-idx3-ubyte",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    DataFile(
        "t10k-labels-idx1-ubyte",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
_FASHION = (
    DataFile(
        "train-images-idx3-ubyte",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    DataFile(
        "train-labels-idx1-ubyte",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    DataFile(
        "t10k-images-idx3-ubyte",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    DataFile(
        "t10k-labels-idx1-ubyte",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)
_CIFAR10 = (
    DataFile(
        "data_batch_1.bin",
        "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    ),
    DataFile(
        "data_batch_2.bin",
        "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    ),
    DataFile(
        "data_batch_3.bin",
        "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    ),
    DataFile(
        "data_batch_4.bin",
        "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    ),
    DataFile(
        "data_batch_5.bin",
        "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    ),
    DataFile(
        "test_batch.bin",
        "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    ),
)
_IDX_DOWNLOAD = tuple(f"{file.name}.gz" for file in _MNIST)

SOURCES: dict[str, Source] = {
    "mnist": Source(
        "mnist",
        _MNIST,
        _idx,
        base="https://ossci-datasets.s3.amazonaws.com/mnist/",
        download=_IDX_DOWNLOAD,
        megabytes=11.6,
        terms="Y. LeCun, C. Cortes, C. J. C. Burges; commonly redistributed under CC BY-SA 3.0",
    ),
    "fashion-mnist": Source(
        "fashion-mnist",
        _FASHION,
        _idx,
        base="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        download=_IDX_DOWNLOAD,
        megabytes=30.9,
        terms="Zalando Research, MIT",
    ),
    "cifar-10": Source(
        "cifar-10",
        _CIFAR10,
        _cifar,
        base="https://www.cs.toronto.edu/~kriz/",
        download=("cifar-10-binary.tar.gz",),
        megabytes=170.1,
        terms="A. Krizhevsky; asks that the technical report of 2009 be cited",
    ),
}
