"""Adapt a trained network to new classes by LoRA, with LoRA+'s higher rate for B.

python examples/lora.py               # the factor of 16 that LoRA+ recommends
python examples/lora.py --factor 1    # plain LoRA

It uses PEFT where that is installed, and a LoRA of its own where not. The network learns the
digits 0 to 4, then only its adapters learn 5 to 9. It needs the extra `study`, for the data.
"""

import argparse
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from hypergradient import Untuned
from hypergradient.study.tasks.data.load import load_data

RANK = 4


class Lora(nn.Module):
    """A frozen linear layer plus B A, of which B starts at zero."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(requires_grad=False)
        self.lora_A = nn.Parameter(torch.randn(RANK, layer.in_features) / RANK)
        self.lora_B = nn.Parameter(torch.zeros(layer.out_features, RANK))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in) to (batch, out)."""
        adapted: Tensor = self.layer(x) + linear(linear(x, self.lora_A), self.lora_B)
        return adapted


def with_lora(model: nn.Sequential) -> nn.Module:
    """Return the model with adapters at its linear layers; nothing else is trained."""
    if find_spec("peft") is not None:
        from peft import LoraConfig, get_peft_model  # noqa: PLC0415

        layers = [name for name, layer in model.named_children() if isinstance(layer, nn.Linear)]
        adapted: nn.Module = get_peft_model(model, LoraConfig(r=RANK, target_modules=layers))
        return adapted
    return nn.Sequential(*(Lora(x) if isinstance(x, nn.Linear) else x for x in model))


def groups_of(model: nn.Module, factor: float) -> Iterator[dict[str, object]]:
    """Make two parameter groups, whose `lr` is a factor on the rate that Untuned learns."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    yield {"params": [p for name, p in named if "lora_A" in name]}
    yield {"params": [p for name, p in named if "lora_B" in name], "lr": factor}


def train(model: nn.Module, optimizer: Untuned, x: Tensor, y: Tensor, epochs: int) -> None:
    """Train on shuffled batches, and leave the average in the model."""
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    optimizer.eval()


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of images that the model classifies rightly."""
    return (model(x).argmax(1) == y).float().mean().item()


def main(arguments: Sequence[str] | None = None) -> float:
    """Pretrain, adapt, and return the accuracy on the new classes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--factor", type=float, default=16.0, help="B's rate over A's")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args(arguments)

    data = load_data("digits", None)
    x, y = torch.from_numpy(data.train_x), torch.from_numpy(data.train_y)
    unseen_x, unseen_y = torch.from_numpy(data.valid_x), torch.from_numpy(data.valid_y)
    old, unseen = y < 5, unseen_y >= 5

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    train(model, Untuned(model.parameters()), x[old], y[old], options.epochs)
    print(f"before: {accuracy(model, unseen_x[unseen], unseen_y[unseen]):.1%} of the new classes")

    adapted = with_lora(model)
    optimizer = Untuned(groups_of(adapted, options.factor))
    train(adapted, optimizer, x[~old], y[~old], options.epochs)
    of_a, of_b = (float(group["lr"]) for group in optimizer.param_groups)
    right = accuracy(adapted, unseen_x[unseen], unseen_y[unseen])
    print(f"after:  {right:.1%}; learning rates {of_a:.2e} of A, {of_b:.2e} of B")
    return right


if __name__ == "__main__":
    main()
