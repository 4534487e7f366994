"""Small models of many kinds, for studies of many tasks, with torch's default initialisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from hypergradient.study.tasks.models.published import BasicBlock


def cnn(channels: int, classes: int = 10) -> nn.Sequential:
    """Return two 3 x 3 convolutions of stride 2 and a linear layer, for 28 x 28 flat images."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, channels, 3, 2, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 3, 2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * channels * 7 * 7, classes),
    )


def cnn1d(channels: int, classes: int = 10) -> nn.Sequential:
    """Return the convolutional network of the MNIST-1D paper, for 40 numbers (its default: 25)."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 40)),
        nn.Conv1d(1, channels, 5, 2, padding=1),
        nn.ReLU(),
        nn.Conv1d(channels, channels, 3, 2, padding=1),
        nn.ReLU(),
        nn.Conv1d(channels, channels, 3, 2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * channels, classes),
    )


def narrow_resnet18(width: int, pooling: int = 1, classes: int = 10) -> nn.Sequential:
    """Return ResNet18 with ``width`` channels in its first stage (He et al. 2016 have 64).

    Args:
        width: Doubled at each of the three other stages.
        pooling: The side of the squares of pixels whose mean is taken first.
        classes: Of the output.
    """
    inputs = width
    layers: list[nn.Module] = [
        nn.AvgPool2d(pooling),
        nn.Conv2d(3, inputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
    ]
    for stage in range(4):
        outputs = width * 2**stage
        layers.append(BasicBlock(inputs, outputs, stride=1 if stage == 0 else 2))
        layers.append(BasicBlock(outputs, outputs, stride=1))
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


class Rows(nn.Module):
    """A GRU that reads an image row by row, and a linear layer on its last state."""

    def __init__(self, columns: int, units: int, classes: int = 10) -> None:
        super().__init__()
        self.columns = columns
        self.recurrent = nn.GRU(columns, units, batch_first=True)
        self.head = nn.Linear(units, classes)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.recurrent(x.view(len(x), -1, self.columns))
        logits: Tensor = self.head(states[:, -1])
        return logits


class TransformerBlock(nn.Module):
    """Causal attention and two linear layers, each normalised before and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = self.mix(self.first(x)).chunk(3, -1)
        q, k, v = (part.view(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in parts)
        seen = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        fed: Tensor = x + self.feed(self.second(x))
        return fed


class CharacterTransformer(nn.Module):
    """A decoder-only transformer: (batch, time) numbers to (batch, characters, time) logits."""

    def __init__(self, characters: int, time: int, width: int, heads: int, blocks: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(characters, width)
        self.places = nn.Parameter(0.02 * torch.randn(time, width))
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(blocks)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, characters))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.characters(x) + self.places))
        return logits.transpose(1, 2)


class Factors(nn.Module):
    """A matrix as a product of two: (batch, 2) rows and columns to their entries, (batch,)."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.rows, self.columns = nn.Embedding(rows, rank), nn.Embedding(columns, rank)
        for factor in (self.rows, self.columns):
            nn.init.normal_(factor.weight, std=rank**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        products: Tensor = self.rows(x[:, 0]) * self.columns(x[:, 1])
        return products.sum(1)


def bag_of_words(words: int, width: int, classes: int) -> nn.Sequential:
    """Return a mean of embeddings and two linear layers, for (batch, words) numbers of words."""
    return nn.Sequential(
        nn.EmbeddingBag(words, width),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )


def word_to_word(words: int, width: int) -> nn.Sequential:
    """Return an embedding and a linear layer, for (batch,) numbers of words to logits of words."""
    return nn.Sequential(nn.Embedding(words, width), nn.Linear(width, words))
