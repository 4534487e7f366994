"""PyTorch optimizers whose learning rate tunes itself by hypergradient descent."""

from hypergradient.adam import AdamHD, AdamWHD
from hypergradient.sgd import SGDHD

__all__ = ["SGDHD", "AdamHD", "AdamWHD"]
