"""Write fixtures/data/digits.npz and its attribution from scikit-learn's load_digits."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

FOLDER = Path(__file__).parent.parent / "fixtures" / "data"
ATTRIBUTION = """\
digits.npz: Optical Recognition of Handwritten Digits

images (1797, 8, 8) uint8, each pixel 0 to 16; labels (1797,) uint8, the digit.

E. Alpaydin, C. Kaynak (1998). Optical Recognition of Handwritten Digits [Dataset].
UCI Machine Learning Repository. https://doi.org/10.24432/C50P49

Licence: Creative Commons Attribution 4.0 International (CC BY 4.0),
https://creativecommons.org/licenses/by/4.0/legalcode

These are the 1,797 images of the set's test file, as distributed with scikit-learn
(sklearn.datasets.load_digits). Changed here: stored as unsigned bytes in NumPy's .npz format
by scripts/make_digits.py; no pixel and no label is altered.
"""


def main() -> None:
    digits = load_digits()
    FOLDER.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        FOLDER / "digits.npz",
        images=digits.images.astype(np.uint8),
        labels=digits.target.astype(np.uint8),
    )
    (FOLDER / "digits.txt").write_text(ATTRIBUTION, encoding="utf-8")


if __name__ == "__main__":
    main()
