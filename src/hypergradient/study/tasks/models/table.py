"""The models that tasks name, and the function that builds each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypergradient.study.tasks.models.published import mlp, resnet18, tanh_mlp, vgg16
from hypergradient.study.tasks.models.small import (
    CharacterTransformer,
    Factors,
    Rows,
    bag_of_words,
    cnn,
    cnn1d,
    narrow_resnet18,
    word_to_word,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "tanh-mlp": tanh_mlp,
    "vgg16": vgg16,
    "resnet18": resnet18,
    "cnn": cnn,
    "cnn1d": cnn1d,
    "narrow-resnet18": narrow_resnet18,
    "rows": Rows,
    "character-transformer": CharacterTransformer,
    "factors": Factors,
    "bag-of-words": bag_of_words,
    "word-to-word": word_to_word,
}
"""The models by name."""
