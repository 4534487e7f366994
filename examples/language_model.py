"""Train a small transformer on bytes of text, by Untuned or by AdamW with warm-up and cosine.

python examples/language_model.py                           # Untuned, about a minute on a CPU
python examples/language_model.py --optimizer AdamW --lr 1e-2
python examples/language_model.py --text book.txt --steps 5000

The text is Python's own reference, which every Python has, or a file of yours.
It needs torch alone.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from hypergradient import Untuned

WINDOW, WIDTH, HEADS, LAYERS = 64, 64, 4, 2


class Block(nn.Module):
    """Causal attention, then a network of one hidden layer, each on a normalised input."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, time, width) to the same shape."""
        heads = self.qkv(self.norm(x)).unflatten(2, (3 * HEADS, -1)).transpose(1, 2)
        mixed = scaled_dot_product_attention(*heads.chunk(3, dim=1), is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class LanguageModel(nn.Module):
    """Logits of the next byte at every place."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.places = nn.Embedding(256, WIDTH), nn.Embedding(WINDOW, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH))
        self.head = nn.Linear(WIDTH, 256)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (batch, time) to (batch, time, 256)."""
        places = torch.arange(tokens.shape[1])
        logits: Tensor = self.head(self.blocks(self.bytes(tokens) + self.places(places)))
        return logits


def batches(text: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Draw random windows of the text, each with the byte that follows."""
    starts = torch.randint(len(text) - WINDOW, (size, 1), generator=generator)
    return text[starts + torch.arange(WINDOW + 1)]


def loss_of(model: nn.Module, windows: Tensor) -> Tensor:
    """Return the mean loss in nats a byte."""
    return cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


def warm_up_and_cosine(steps: int, step: int) -> float:
    """Return the factor on AdamW's rate: 5% of warm-up, then a cosine to zero."""
    warm_up = max(1, steps // 20)
    return min((step + 1) / warm_up, (1 + math.cos(math.pi * step / steps)) / 2)


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, print losses, and return the last loss on text that was held back."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--text", type=Path)
    parser.add_argument("--optimizer", choices=["Untuned", "AdamW"], default="Untuned")
    parser.add_argument("--lr", type=float, default=1e-2, help="of AdamW")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args(arguments)

    raw = options.text.read_bytes() if options.text else "\n".join(topics.values()).encode()
    text = torch.tensor(list(raw))
    train, held_back = text[: -len(text) // 10], text[-len(text) // 10 :]
    windows = batches(held_back, 256, torch.Generator().manual_seed(1))

    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)
    model = LanguageModel()
    untuned = options.optimizer == "Untuned"
    optimizer = (
        Untuned(model.parameters(), weight_decay=0.1)
        if untuned
        else torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=0.1)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 1.0 if untuned else warm_up_and_cosine(options.steps, step)
    )
    loss = math.nan
    every = max(1, options.steps // 10)
    for step in range(1, options.steps + 1):
        optimizer.zero_grad()
        loss_of(model, batches(train, options.batch_size, draw)).backward()
        optimizer.step()
        rate = float(optimizer.param_groups[0]["lr"])
        schedule.step()
        if step % every == 0:
            if isinstance(optimizer, Untuned):
                optimizer.eval()
            with torch.no_grad():
                loss = loss_of(model, windows).item()
            if isinstance(optimizer, Untuned):
                optimizer.train()
            print(f"step {step:5}  loss {loss:.3f} nats a byte  learning rate {rate:.2e}")
    return loss


if __name__ == "__main__":
    main()
