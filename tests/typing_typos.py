"""A user's typing errors: checkers refuse each marked line, and `tests/test_typing.py` counts."""

from torch import nn

from hypergradient import SGDHD, AdamHD, AdamWHD, Hypergradient, MuonHD, Untuned

params = list(nn.Linear(3, 1).parameters())
SGDHD(params, rule="ratio")  # typo
SGDHD(params, granularity="layer")  # typo
AdamHD(params, reduction="max")  # typo
AdamHD(params, product="gradients")  # typo
AdamWHD(params, rule="multiplicativ")  # typo
AdamWHD(params, hypergrad_rate=1e-3)  # typo
MuonHD(params, granularity="tensors")  # typo
MuonHD(params, adjust_lr_fn="rms")  # typo
Hypergradient(params, base="adams")  # typo
Hypergradient(params, rule="add")  # typo
Untuned(params, base="adamw")  # typo
SGDHD(params, rule="multiplicative", granularity="member", product="gradient")
Hypergradient(params, base="nadam", momentum_decay=0.01)
Untuned(params, base="lion")
