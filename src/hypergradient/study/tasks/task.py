"""What a task is: data, a model and a loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypergradient.study.tasks.data.load import load_data

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Generator, Tensor, nn

    from hypergradient.study.tasks.data.base import Data
    from hypergradient.study.tasks.data.batches import Batches

CROSS_ENTROPY, SQUARES = "cross-entropy", "mean squared error"


@dataclass(frozen=True)
class Task:
    """A data set and the model trained on it.

    Attributes:
        dataset: A name in ``DATASETS`` of ``tasks.data.load``, or a function from the folder that
            ``--data-dir`` names (or None) to a ``Data``.
        network: A name in ``MODELS`` of ``tasks.models.table``, or a function that returns the
            model.
        arguments: What the model's function is called with.
        augmentation: A name in ``AUGMENTATIONS``, a function from (inputs, generator) to
            inputs, or None.
        shuffled: Whether each epoch has the examples in an order of its own; else in that of the
            data set.
        resampled: Whether a run's ``train_examples`` are drawn anew for each epoch, from the whole
            training set; else they are the same part of it in all epochs. It is for sets of which
            a training sees a small part, such as all windows of a text.
        stacked: Whether runs that share their batches are trained together as an ensemble, which
            pays for small models (see ``train.ensemble``). The model must then consist of linear
            layers and activations.
        loss: A name in ``LOSSES`` of ``tasks.losses``, or a function of (outputs, targets) that
            returns a minibatch's mean loss.
        training_step: A function of (model, batch) that returns the batch's mean loss. It takes the
            place of ``loss`` where a batch is not a pair, or a model is called in its own way.
        metrics: Functions, by name, that are averaged over the validation set: of (outputs,
            targets), or of (model, batch) where there is a ``training_step``.

    Raises:
        ValueError: It is stacked, and its loss is not the cross-entropy.
    """

    dataset: str | Callable[[Path | None], Data | Batches]
    network: str | Callable[..., nn.Module]
    arguments: tuple[int, ...] = ()
    augmentation: str | Callable[[Tensor, Generator], Tensor] | None = None
    stacked: bool = False
    loss: str | Callable[[Tensor, Tensor], Tensor] = CROSS_ENTROPY
    training_step: Callable[[nn.Module, Any], Tensor] | None = None
    metrics: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    shuffled: bool = True
    resampled: bool = False

    def __post_init__(self) -> None:
        """Refuse a loss that an ensemble cannot have."""
        if self.stacked and not (self.loss == CROSS_ENTROPY and self.is_plain):
            raise ValueError(f"stacked=True needs the {CROSS_ENTROPY}, not the {self.loss}")

    @property
    def is_plain(self) -> bool:
        """Whether the loss is a built-in one, and there is no step or metric of a person's own."""
        return isinstance(self.loss, str) and self.training_step is None and not self.metrics

    def load(self, folder: Path | None = None) -> Data | Batches:
        """Return the data. The data set that was loaded last stays in memory."""
        return load_data(self.dataset, folder)

    def model(self, seed: int) -> nn.Module:
        """Return the model with a seed's initial weights. torch's random state stays as it was."""
        import torch  # noqa: PLC0415  (2 s, and not needed to name the tasks)

        from hypergradient.study.tasks.models.table import MODELS  # noqa: PLC0415

        build = MODELS[self.network] if isinstance(self.network, str) else self.network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(*self.arguments)

    def augment(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return a minibatch's inputs as they are trained on."""
        from hypergradient.study.tasks.augment import AUGMENTATIONS  # noqa: PLC0415

        if self.augmentation is None:
            return inputs
        augment = self.augmentation
        return (AUGMENTATIONS[augment] if isinstance(augment, str) else augment)(inputs, generator)
