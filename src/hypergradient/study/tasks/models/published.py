"""The models that tasks train, with torch's default initialisation."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""The channels of VGG16's convolutions, between two poolings each (Simonyan, Zisserman 2015)."""

RESNET18 = (64, 128, 256, 512)
"""The channels of ResNet18's stages, two blocks each (He et al. 2016)."""


def mlp(*widths: int) -> nn.Sequential:
    """Return linear layers with ReLU between them; two widths are logistic regression.

    Args:
        widths: The number of inputs, of each hidden layer's units, and of classes.

    Returns:
        A module from (batch, widths[0]) to logits of shape (batch, widths[-1]).
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def tanh_mlp(inputs: int, units: int, classes: int, seed: int | None = None) -> nn.Sequential:
    """Return the network of Chandra et al. (2022, version 1), with tanh after both layers.

    Its weights are uniform, as torch's are by default, and its biases 0. Their log-softmax is a
    part of the cross-entropy here.

    Args:
        inputs: The number of inputs.
        units: That of hidden units.
        classes: That of outputs.
        seed: Draws the same weights in every run; 0x42 those of the paper.
    """
    layers = [nn.Linear(inputs, units), nn.Linear(units, classes)]
    if seed is not None:
        torch.manual_seed(seed)
    for layer in layers:
        nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh())


def vgg16(classes: int = 10, narrower: int = 1, dropout: bool = True) -> nn.Sequential:
    """Return VGG16 for 32 x 32 images: batch norm, dropout, one hidden layer of 512.

    As the Torch blog has it (Zagoruyko 2015, http://torch.ch/blog/2015/07/30/cifar.html): dropout
    of 0.3 after the first convolution, of 0.4 after all others not followed by a pooling, and of
    0.5 in the classifier.

    Args:
        classes: The number of classes.
        narrower: What the source's widths, of all layers, are divided by; a divisor of 64.
        dropout: Whether there is any: a few hundred steps are too short for a narrow network to
            learn in spite of it.

    Returns:
        A module from (batch, 3, 32, 32) to logits of shape (batch, classes).
    """

    def dropped(share: float) -> list[nn.Module]:
        return [nn.Dropout(share)] if dropout else []

    layers: list[nn.Module] = []
    inputs = 3
    for stage in VGG16:
        for place, width in enumerate(stage):
            outputs = width // narrower
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
            layers.append(nn.ReLU())
            if place < len(stage) - 1:
                layers += dropped(0.3 if stage is VGG16[0] else 0.4)
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        *dropped(0.5),
        nn.Linear(inputs, inputs),
        nn.BatchNorm1d(inputs),
        nn.ReLU(),
        *dropped(0.5),
        nn.Linear(inputs, classes),
    )


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm, beside a short cut (He et al. 2016, fig. 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.residual(x) + self.shortcut(x))


def resnet18(classes: int = 10, narrower: int = 1) -> nn.Sequential:
    """Return ResNet18 for 32 x 32 images: it starts with one 3 x 3 convolution and no pooling.

    Args:
        classes: The number of classes.
        narrower: What the source's widths are divided by; a divisor of 64.

    Returns:
        A module from (batch, 3, 32, 32) to logits of shape (batch, classes).
    """
    widths = [width // narrower for width in RESNET18]
    inputs = widths[0]
    layers: list[nn.Module] = [
        nn.Conv2d(3, inputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
    ]
    for stage, outputs in enumerate(widths):
        layers.append(BasicBlock(inputs, outputs, stride=1 if stage == 0 else 2))
        layers.append(BasicBlock(outputs, outputs, stride=1))
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
