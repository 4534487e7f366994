"""How diabetes will progress: a loss and a metric of one's own, on ten numbers a patient.

hypergradient compare compare_table.py
"""

import numpy as np
from sklearn.datasets import load_diabetes
from torch import nn

epochs = 20
batch_size = 31

loss = nn.functional.mse_loss
metrics = {"mean_absolute_error": nn.functional.l1_loss}


def model() -> nn.Module:
    """Return a network with a batch norm."""
    return nn.Sequential(
        nn.Linear(10, 50), nn.BatchNorm1d(50), nn.ReLU(), nn.Dropout(0.2), nn.Linear(50, 1)
    )


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets of mean 0 and variance 1, as NumPy arrays."""
    x, y = load_diabetes(return_X_y=True)
    return x / x.std(0), ((y - y.mean()) / y.std())[:, None]
