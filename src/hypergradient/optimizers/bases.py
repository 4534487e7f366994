"""The bases that can be named: `Hypergradient(params, base="lion")`."""

from typing import Literal

from hypergradient.engine.base import Base
from hypergradient.optimizers.adafactor import Adafactor
from hypergradient.optimizers.adam import Adam, AdamW, AMSGrad, NAdam
from hypergradient.optimizers.adaptive import Adagrad, RMSprop
from hypergradient.optimizers.lion import Lion
from hypergradient.optimizers.muon import Muon
from hypergradient.optimizers.sgd import SGD

BaseName = Literal[
    "sgd", "adam", "adamw", "amsgrad", "nadam", "rmsprop", "adagrad", "adafactor", "lion", "muon"
]

BASES: dict[str, Base] = {
    base.name: base
    for base in (
        *(SGD(), Adam(), AdamW(), AMSGrad(), NAdam()),
        *(RMSprop(), Adagrad(), Adafactor(), Lion(), Muon()),
    )
}
