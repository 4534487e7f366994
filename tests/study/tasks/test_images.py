"""The image tasks: what augmentation may change, and what the models are."""

from functools import partial

import pytest
import torch

from hypergradient.study.tasks.augment import CROP_PADDING, flip_and_crop
from hypergradient.study.tasks.models import published
from hypergradient.study.tasks.registry import find_task


def images(count=200):
    """Each pixel's value says where it was; none is 0."""
    height, width = torch.arange(8)[:, None], torch.arange(8)
    return (1 + 8 * height + width).float().expand(count, 3, 8, 8) * torch.tensor([1, -1, 2])[
        :, None, None
    ]


def shifted(image, down, right, *, mirrored):
    """The obvious way: write each pixel to where it goes."""
    if mirrored:
        image = image.flip(2)
    result = torch.zeros_like(image)
    for row in range(8):
        for column in range(8):
            if 0 <= row - down < 8 and 0 <= column - right < 8:
                result[:, row, column] = image[:, row - down, column - right]
    return result


def test_an_augmented_image_is_a_shift_of_the_image_or_its_mirror():
    originals = images()
    augmented = flip_and_crop(originals, torch.Generator().manual_seed(0))
    span = range(-CROP_PADDING, CROP_PADDING + 1)
    possible = {
        tuple(shifted(originals[0], down, right, mirrored=mirrored).flatten().tolist()): (
            down,
            right,
            mirrored,
        )
        for down in span
        for right in span
        for mirrored in (False, True)
    }
    seen = [possible[tuple(image.flatten().tolist())] for image in augmented]
    assert {down for down, _, _ in seen} == set(span)
    assert {right for _, right, _ in seen} == set(span)
    mirrored = sum(mirrored for *_, mirrored in seen)
    assert 60 < mirrored < 140  # of 200: seven standard deviations each way
    assert torch.equal(originals, images())


def test_augmentation_is_the_generators_alone():
    torch.manual_seed(0)
    first = flip_and_crop(images(), torch.Generator().manual_seed(3))
    torch.manual_seed(1)
    assert torch.equal(first, flip_and_crop(images(), torch.Generator().manual_seed(3)))
    assert not torch.equal(first, flip_and_crop(images(), torch.Generator().manual_seed(4)))


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


# Counted by hand from the layers: convolutions 3x3 with and without bias, batch norm 2 a channel.
VGG16_CONVOLUTIONS = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
VGG16_CONVOLUTIONS += [(256, 512)] + 5 * [(512, 512)]


def test_vgg16_has_the_layers_of_its_source():
    model = published.vgg16()
    expected = sum(9 * a * b + b + 2 * b for a, b in VGG16_CONVOLUTIONS)
    expected += 512 * 512 + 512 + 2 * 512 + 512 * 10 + 10
    assert parameters(model) == expected
    kinds = [type(layer).__name__ for layer in model]
    assert [kinds.count(kind) for kind in ("Conv2d", "MaxPool2d", "Dropout", "Linear")] == [
        *(13, 5, 10, 2)
    ]


def test_resnet18_has_its_well_known_size():
    assert parameters(published.resnet18()) == 11_173_962  # of its CIFAR variant with short cuts


@pytest.mark.parametrize("network", ["vgg16", "resnet18"])
def test_narrow_networks_have_the_same_layers_with_an_eighth_of_the_channels(network):
    wide, narrow = (
        [*find_task(f"cifar10-{network}{narrow}").model(0).parameters()]
        for narrow in ("", "-narrow")
    )
    assert len(wide) == len(narrow)
    for full, part in zip(wide, narrow, strict=True):
        assert [a if a in (3, 10) or axis > 1 else a // 8 for axis, a in enumerate(full.shape)] == [
            *part.shape
        ]


@pytest.mark.parametrize(
    "build",
    [
        published.vgg16,
        published.resnet18,
        partial(published.vgg16, 10, 8),
        partial(published.resnet18, 10, 8),
    ],
)
def test_image_models_map_images_to_logits_and_learn_in_all_layers(build):
    torch.manual_seed(0)
    model = build()
    logits = model(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 10)
    logits.logsumexp(1).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
