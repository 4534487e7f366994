"""A small problem on which `Untuned` is tried."""

import torch
from torch import Tensor, nn


class Problem:
    """A small network on random data, its losses in float64."""

    def __init__(self, scale: float = 1.0, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.x = torch.randn(256, 8, dtype=torch.float64)
        self.y = torch.sin(self.x @ torch.randn(8, 1, dtype=torch.float64))
        self.model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).double()
        self.scale = scale

    def loss(self, rows: slice | Tensor = slice(None)) -> Tensor:
        return self.scale * nn.functional.mse_loss(self.model(self.x[rows]), self.y[rows])

    def train(self, optimizer: torch.optim.Optimizer, steps: int, *, first: int = 0) -> list[float]:
        rates = []
        for t in range(first, first + steps):
            order = torch.randperm(256, generator=torch.Generator().manual_seed(t // 8))
            optimizer.zero_grad()
            self.loss(order[t % 8 * 32 : (t % 8 + 1) * 32]).backward()
            optimizer.step()
            rates.append(float(optimizer.param_groups[0]["lr"]))
        return rates
