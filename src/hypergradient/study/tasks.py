"""The tasks: a name, the data set and the model. The loss is the cross-entropy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Task:
    """A data set and the layers of the model trained on it.

    Attributes:
        dataset: A name in ``data.DATASETS``.
        widths: Inputs, hidden units of each layer, classes.
    """

    dataset: str
    widths: tuple[int, ...]

    def identity(self) -> dict[str, Any]:
        """Return what determines the task's results, ready for JSON."""
        return asdict(self)

    def model(self, seed: int) -> nn.Module:
        """Return the model with the weights that ``seed`` gives; torch's own generator is kept."""
        import torch  # noqa: PLC0415  (2 s, and not needed to name the tasks)

        from hypergradient.study.models import mlp  # noqa: PLC0415

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return mlp(self.widths)


TASKS = {
    "digits-logreg": Task("digits", (64, 10)),
    "digits-mlp": Task("digits", (64, 100, 100, 10)),
    "mnist-logreg": Task("mnist", (784, 10)),
    "mnist-mlp": Task("mnist", (784, 1000, 1000, 10)),
}
"""The tasks by name. Adding one of these shapes here is all it takes."""
