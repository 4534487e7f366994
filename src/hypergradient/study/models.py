"""The models that tasks train, with torch's default initialisation."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def mlp(widths: tuple[int, ...]) -> nn.Sequential:
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
