"""Images moved and mirrored."""

import torch

from rramhil.nn.augment import moved_images


def test_images_are_cut_out_of_a_black_frame_and_mirrored() -> None:
    images = torch.arange(1, 19, dtype=torch.uint8).reshape(2, 1, 3, 3)
    starts = torch.tensor([[[1], [0]], [[1], [2]]])
    still = moved_images(images, 1, starts[:, :1].expand(2, 2, 1), torch.tensor([False, True]))
    assert still.dtype == torch.uint8
    assert torch.equal(still[0], images[0])
    assert torch.equal(still[1], images[1].flip(2))
    moved = moved_images(images, 1, starts, torch.tensor([False, False]))
    assert moved[1, 0].tolist() == [[0, 0, 0], [11, 12, 0], [14, 15, 0]]
    turned = moved_images(images, 1, starts, torch.tensor([False, True]))
    assert turned[1, 0].tolist() == [[0, 0, 0], [0, 12, 11], [0, 15, 14]]
