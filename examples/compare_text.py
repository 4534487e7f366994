"""The next character of a text: a Dataset, a DataLoader, and a training step of one's own.

hypergradient compare compare_text.py
"""

import argparse
import pathlib

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

epochs = 4

LENGTH = 32
"""Characters in a window."""

TEXT = "".join(pathlib.Path(module.__file__).read_text("utf-8") for module in (argparse, pathlib))
CHARACTERS = sorted(set(TEXT))


class Windows(Dataset[dict[str, Tensor]]):
    """Windows of a text, each with the characters that follow its own."""

    def __init__(self, text: str) -> None:
        places = {character: place for place, character in enumerate(CHARACTERS)}
        self.numbers = torch.tensor([places[character] for character in text])

    def __len__(self) -> int:
        return (len(self.numbers) - 1) // LENGTH

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        window = self.numbers[index * LENGTH : (index + 1) * LENGTH + 1]
        return {"characters": window[:-1], "next": window[1:]}


def data() -> tuple[DataLoader[dict[str, Tensor]], Dataset[dict[str, Tensor]]]:
    """Return nine tenths of the text to train, in batches, and the rest to validate."""
    cut = len(TEXT) * 9 // 10
    return DataLoader(Windows(TEXT[:cut]), batch_size=32, shuffle=True), Windows(TEXT[cut:])


class Reader(nn.Module):
    """A GRU that reads characters."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(CHARACTERS), 32)
        self.memory = nn.GRU(32, 64, batch_first=True)
        self.output = nn.Linear(64, len(CHARACTERS))

    def forward(self, characters: Tensor) -> Tensor:
        """Return the logits of what follows each character."""
        logits: Tensor = self.output(self.memory(self.embedding(characters))[0])
        return logits


model = Reader


def training_step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the loss of a batch."""
    logits = model(batch["characters"])
    return nn.functional.cross_entropy(logits.flatten(0, 1), batch["next"].flatten())


def accuracy(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the share of characters that are guessed."""
    return (model(batch["characters"]).argmax(-1) == batch["next"]).float().mean()


metrics = {"guessed": accuracy}
