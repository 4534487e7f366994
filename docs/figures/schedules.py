"""Draw docs/schedules.png: warm-up and cosine on AdamHD, the rate used and the schedule alone.

python docs/figures/schedules.py
"""

import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import cross_entropy
from torch.optim import lr_scheduler

from hypergradient import AdamHD
from hypergradient.study.tasks.data.load import load_data
from hypergradient.study.tasks.models.published import mlp

EPOCHS, BATCH, WARM_UP, LR = 40, 128, 40, 1e-4


def train(hypergrad_lr: float) -> tuple[list[float], list[float]]:
    """Rates and losses of every step on scikit-learn's digits."""
    digits = load_data("digits", None)
    x, y = torch.from_numpy(digits.train_x), torch.from_numpy(digits.train_y)
    torch.manual_seed(0)
    model = mlp(64, 100, 100, 10)
    optimizer = AdamHD(model.parameters(), lr=LR, hypergrad_lr=hypergrad_lr)
    steps = EPOCHS * math.ceil(len(x) / BATCH)

    def shape(t: int) -> float:
        return min((t + 1) / WARM_UP, 0.5 * (1 + math.cos(math.pi * t / steps)))

    scheduler = lr_scheduler.LambdaLR(optimizer, shape)
    rates, losses = [], []
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            loss = cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            rates.append(optimizer.lr_summary()["median"])
            losses.append(loss.item())
            scheduler.step()
    return rates, losses


def main() -> None:
    """Train twice, with and without a hypergradient, and draw."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 2.8), layout="constrained")
    for beta, label, style in (
        (0.0, "schedule alone", {"color": "0.5", "linestyle": "--"}),
        (1e-7, "schedule x hypergradient", {"color": "#0b5fa5"}),
    ):
        rates, losses = train(beta)
        smooth = torch.tensor(losses).unfold(0, 12, 1).mean(1)
        left.plot(rates, label=label, **style)
        right.plot(smooth, label=label, **style)
    left.set(xlabel="step", ylabel="learning rate in use")
    right.set(xlabel="step", ylabel="training loss", yscale="log")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    left.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92")
    figure.savefig(Path(__file__).parents[1] / "schedules.png", dpi=150)


if __name__ == "__main__":
    main()
