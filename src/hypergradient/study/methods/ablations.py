"""``Untuned`` with one of its parts taken away or changed, for the study ``untuned-ablation``."""

import math

from torch import Tensor

from hypergradient.untuned import Untuned


class OneStep(Untuned):
    """The move of the last step alone in the inner product, as in hypergradient descent."""

    _memory = 1e-6  # to scale the product changes nothing


class TenSteps(Untuned):
    """A memory of about ten steps."""

    _memory = 0.9


class Everything(Untuned):
    """A memory of all that training has moved, as D-Adaptation and Prodigy have."""

    _memory = 1.0


class NoAverage(Untuned):
    """The last iterate in the place of the average: all weight on the last step."""

    _power = math.inf


class EqualWeights(Untuned):
    """All steps of one rate weigh the same in the average."""

    _power = 0


class QuickMean(Untuned):
    """The mean of |h| over ten steps, so that the rate moves at full speed."""

    _spread = 10.0
    _spread_share = 0.0


class ShortMean(Untuned):
    """The mean of |h| over 200 steps, however many there have been."""

    _spread_share = 0.0


class ByLength(Untuned):
    """The last steps by their length, and not by their direction."""

    def _move_rate(self, h: float | Tensor) -> None:
        rate = self.param_groups[0]["lr"]
        before = rate.clone()
        super()._move_rate(h)
        for state in self.state.values():
            state["directions"].mul_(before / rate)


class OneSpeed(Untuned):
    """No slowing down: at most 0.05 a step for ever."""

    _slowing = math.inf


class Endless(OneSpeed, ShortMean):
    """Both: a rate that may grow without end where every step looks good."""


class NoRise(Untuned):
    """One speed of the rate from the first step on."""

    _rising_eta = 0.05


class NoFloor(Untuned):
    """A rate that may fall without end."""

    _floor = 0.0


class SmallStart(Untuned):
    """A first step ten times smaller."""

    _first = 1e-3
