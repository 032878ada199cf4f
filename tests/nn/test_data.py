"""Data sets: the digits in the package, files in a folder, and what is said when they are not."""

import gzip
import hashlib
import lzma
from pathlib import Path

import numpy as np
import pytest

from rramhil.nn import data as data_module
from rramhil.nn.data import (
    DataError,
    DataFile,
    DataSet,
    Source,
    data_folder,
    data_names,
    find_source,
    load_data,
)
from rramhil.nn.splits import SIZES, Sizes, make_splits


def small_mnist(folder: Path, images: int = 5, tests: int = 2) -> Source:
    """Files of MNIST's format, written packed and plain, and a source that knows their sums."""
    random = np.random.default_rng(0)
    contents = {}
    for part, count in (("train", images), ("t10k", tests)):
        pixels = random.integers(0, 256, size=count * 784, dtype=np.uint8).tobytes()
        contents[f"{part}-images-idx3-ubyte"] = bytes(16) + pixels
        contents[f"{part}-labels-idx1-ubyte"] = bytes(8) + bytes(range(count))
    folder.mkdir(parents=True)
    for name, content in contents.items():
        if name.startswith("train"):
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    files = tuple(DataFile(n, hashlib.sha256(c).hexdigest()) for n, c in contents.items())
    real = find_source("mnist")
    return Source("mnist", files, real.parse, real.base, real.download, 1.0, "")


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(data_module.SOURCES, "mnist", small_mnist(tmp_path / "mnist"))
    return tmp_path


def test_the_digits_come_with_the_package() -> None:
    digits = load_data("digits")
    assert digits.images.shape == (1797, 1, 8, 8)
    pixels = digits.pixels([0, 1])
    assert pixels.dtype == np.float32
    assert pixels.min() == 0
    assert pixels.max() == 1
    assert np.bincount(digits.labels).min() > 170


def test_idx_files_are_read_packed_or_not(mnist: Path) -> None:
    data = load_data("mnist", mnist)
    assert data.images.shape == (7, 1, 28, 28)
    assert data.labels.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert data.test_start == 5
    expected = np.random.default_rng(0).integers(0, 256, size=5 * 784, dtype=np.uint8)
    np.testing.assert_array_equal(data.images[:5].reshape(-1), expected)


def test_cifar_records_are_label_then_planes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = bytes([7]) + bytes([1]) * 1024 + bytes([2]) * 1024 + bytes([3]) * 1024
    real = find_source("cifar-10")
    files = []
    (tmp_path / "cifar-10").mkdir()
    for file in real.files:
        (tmp_path / "cifar-10" / f"{file.name}.xz").write_bytes(lzma.compress(record))
        files.append(DataFile(file.name, hashlib.sha256(record).hexdigest()))
    source = Source("cifar-10", tuple(files), real.parse, real.base, real.download, 1.0, "")
    monkeypatch.setitem(data_module.SOURCES, "cifar-10", source)
    data = load_data("cifar-10", tmp_path)
    assert data.images.shape == (6, 3, 32, 32)
    assert data.images[0, :, 5, 5].tolist() == [1, 2, 3]
    assert data.labels.tolist() == [7] * 6


def test_missing_data_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`rramhil data fetch mnist`, or set RRAMHIL_DATA"):
        load_data("mnist", tmp_path)
    with pytest.raises(DataError, match="did you mean 'fashion-mnist'"):
        load_data("fashon-mnist", tmp_path)


def test_an_altered_or_broken_file_is_refused(mnist: Path) -> None:
    plain = mnist / "mnist" / "t10k-labels-idx1-ubyte"
    plain.write_bytes(bytes(8) + bytes([9, 9]))
    with pytest.raises(DataError, match="SHA-256 differs"):
        load_data("mnist", mnist)
    plain.write_bytes(bytes(8) + bytes([0, 1]))
    packed = mnist / "mnist" / "train-images-idx3-ubyte.gz"
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match="delete it and fetch it again"):
        load_data("mnist", mnist)


def test_the_folder_is_the_chosen_one_then_the_variable_then_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RRAMHIL_DATA", str(tmp_path / "named"))
    assert data_folder(tmp_path) == tmp_path
    assert data_folder() == tmp_path / "named"
    monkeypatch.delenv("RRAMHIL_DATA")
    assert data_folder().parts[-2:] == ("rramhil", "data")
    assert data_names() == ["digits", "mnist", "fashion-mnist", "cifar-10"]


def tiny(count: int, test_start: int | None) -> DataSet:
    images = np.zeros((count, 1, 2, 2), dtype=np.uint8)
    return DataSet("digits", images, np.zeros(count, dtype=np.int64), 16, test_start)


@pytest.mark.parametrize("test_start", [None, 80])
def test_splits_are_disjoint_complete_and_the_same_for_a_seed(test_start: int | None) -> None:
    data, sizes = tiny(100, test_start), Sizes(calibration=10, validation=5, test=20)
    splits = make_splits(data, 3, sizes)
    parts = [splits.train, splits.calibration, splits.validation, splits.test]
    assert [len(part) for part in parts] == [65, 10, 5, 20]
    assert sorted(np.concatenate(parts).tolist()) == list(range(100))
    if test_start is not None:
        assert splits.test.tolist() == list(range(80, 100))
    assert make_splits(data, 3, sizes).digests() == splits.digests()
    other = make_splits(data, 4, sizes).digests()
    same = {name for name in other if other[name] == splits.digests()[name]}
    assert same == ({"test"} if test_start is not None else set())


def test_the_digests_of_the_digits_are_those_that_the_network_was_trained_with() -> None:
    digests = make_splits(load_data("digits"), 0).digests()
    assert set(digests) == {"train", "calibration", "validation", "test"}
    assert digests["test"].startswith("431ea99a329d2bd8")
    assert SIZES["digits"].test >= 600


def test_splits_that_leave_nothing_to_train_with_are_refused() -> None:
    with pytest.raises(ValueError, match="leave 0 to train with"):
        make_splits(tiny(35, None), 0, Sizes(10, 5, 20))
