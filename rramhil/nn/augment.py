"""Images moved and mirrored, so that a training does not see the same ones in each epoch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def moved_images(images: Tensor, shift: int, starts: Tensor, mirrored: Tensor) -> Tensor:
    """`images` (n, channels, height, width), each cut out of itself in a black frame, and mirrored.

    `starts` (2, n, 1): the top row and left column of the cut, 0 to 2 x `shift`; at `shift` an
    image stays where it was. `mirrored` (n,): which ones are turned left to right. The result has
    the type of `images`, channels last in memory.
    """
    count, _, height, width = images.shape
    padded = functional.pad(images, (shift,) * 4)
    rows = starts[0] + torch.arange(height)
    columns = starts[1] + torch.arange(width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    image = torch.arange(count)[:, None, None]
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
