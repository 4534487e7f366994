"""Augmentation of a minibatch of images, on tensors and with a generator of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from hypergradient.study.tasks.to_device import to_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

CROP_PADDING = 4


def flip_and_crop(images: Tensor, generator: Generator) -> Tensor:
    """Mirror half of the images, and shift each by up to 4 pixels; what comes in is 0, the mean.

    Args:
        images: Of shape (batch, channels, height, width); not changed.
        generator: What to draw from, on the CPU, so that all devices see the same images.

    Returns:
        Images of the same shape.
    """
    batch, _, height, width = images.shape
    flips = torch.rand(batch, generator=generator) < 0.5  # noqa: PLR2004
    shifts = torch.randint(2 * CROP_PADDING + 1, (2, batch, 1), generator=generator)
    flips, shifts = to_device(flips, images.device), to_device(shifts, images.device)
    rows = shifts[0] + torch.arange(height, device=images.device)
    columns = shifts[1] + torch.arange(width, device=images.device)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    padded = pad(images, (CROP_PADDING,) * 4)
    image = torch.arange(batch, device=images.device)[:, None, None]
    # The channels come last from this indexing, and are put back in their place.
    cropped = padded[image, :, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2).contiguous()


AUGMENTATIONS: dict[str, Callable[[Tensor, Generator], Tensor]] = {"flip-and-crop": flip_and_crop}
"""The augmentations by name."""
