"""Which optimizer for my network? A person's own task, whole: a model, data and what to measure.

Copy this file, put your own model and data into it, and run

    hypergradient compare compare_own_task.py

It trains AdamW from five rates, and Untuned and AdamWHD beside it, and ends with one page.

The loss is the cross-entropy. For another one add a function of that name, such as

    loss = torch.nn.functional.mse_loss

or, where a batch is not a pair or the model is called in its own way, the whole step:

    def training_step(model, batch):
        return my_loss(model(batch["tokens"]), batch["labels"])
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

epochs = 10
batch_size = 64


def model() -> nn.Module:
    """Return the network. It is made anew for each run, with the same weights for all."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))


def data() -> tuple[Tensor, Tensor]:
    """Return inputs and targets, of which a fifth is held out to validate.

    It may also return the pair (train, valid), each a pair of tensors or NumPy arrays, a Dataset or
    a DataLoader.
    """
    images, classes = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(classes)


def errors(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the share of wrong answers, in percent."""
    return 100 * (outputs.argmax(1) != targets).float().mean()


metrics = {"errors": errors}
