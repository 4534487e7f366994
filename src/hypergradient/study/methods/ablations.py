"""``Untuned`` with one of its parts taken away or changed, for the study ``untuned-ablation``."""

import math
from dataclasses import replace
from types import MappingProxyType

from hypergradient import Base, Untuned
from hypergradient.engine.inner_products import Products
from hypergradient.engine.iterates import Average, AverageNumbers
from hypergradient.engine.ranks import Ranks
from hypergradient.engine.rules import RULES, Relative
from hypergradient.engine.types import Group


def rule(name: str, **constants: float) -> str:
    """Enter a variant of the rule "relative" into the table of rules, and return its name."""
    usual = RULES["relative"]
    RULES[name] = replace(usual, update=replace(Relative(), **constants))
    return name


def not_bounded(base: Base) -> Base:
    """Return the base with directions of any size."""
    own: Base = type("NotBounded", (type(base),), {"max_rms": math.inf})()
    return own


class OneStep(Untuned):
    """The move of the last step alone in the inner product, as in hypergradient descent."""

    iterate = Average(trace_steps=1.0 + 1e-6, trace_share=0.0)  # mu > 0: scale changes nothing


class TenSteps(Untuned):
    """A memory of about ten steps."""

    iterate = Average(trace_steps=10.0, trace_share=0.0)


class FiftySteps(Untuned):
    """A memory of 50 steps, however many there have been."""

    iterate = Average(trace_steps=50.0, trace_share=0.0)


class FiftyAtFirst(Untuned):
    """A memory of at least 50 steps, a faster warm-up, and moves up by 2 / t: the second rule's."""

    iterate = Average(trace_steps=50.0)
    rule = rule("relative-fifty-at-first", trace=50.0, rising=2.0, rise=4.0)


class TwoOverT(Untuned):
    """Moves up by 2 / t."""

    rule = rule("relative-two-over-t", rising=2.0)


class AllSteps(Untuned):
    """A memory of as many steps as there have been, in place of half of them."""

    iterate = Average(trace_share=1.0)


class Everything(Untuned):
    """A memory of all that training has moved, as D-Adaptation and Prodigy have."""

    iterate = Average(trace_steps=math.inf)


class NoAverage(Untuned):
    """The last iterate in the place of the average: all weight on the last step."""

    iterate = Average(power=math.inf)


class EqualWeights(Untuned):
    """All steps of one rate weigh the same in the average."""

    iterate = Average(power=0.0)


class QuickMean(Untuned):
    """The mean of |h| over ten steps, so that the rate moves at full speed."""

    rule = rule("relative-quick-mean", steps=10.0, share=0.0)


class ShortMean(Untuned):
    """The mean of |h| over 200 steps, however many there have been."""

    rule = rule("relative-short-mean", share=0.0)


class ByLength(Untuned):
    """The last steps by their length, and not by their direction."""

    def _move_rates(self, products: Products, ranks: Ranks | None) -> None:
        rate = self.param_groups[0]["lr"]
        before = rate.clone()
        super()._move_rates(products, ranks)
        for state in self.state.values():
            state["direction_trace"].mul_(before / rate)


class OneSpeed(Untuned):
    """No slowing down: at most 0.05 a step for ever."""

    rule = rule("relative-one-speed", rising=math.inf, falling=math.inf)


class Endless(Untuned):
    """Both: a rate that may grow without end where every step looks good."""

    rule = rule("relative-endless", share=0.0, rising=math.inf, falling=math.inf)


class NoRise(Untuned):
    """One speed of the rate from the first step on."""

    rule = rule("relative-no-rise", rise=1.0)


class FullRise(Untuned):
    """A warm-up at full speed until h is negative, however flat the slope has become."""

    RULES["relative-full-rise"] = replace(RULES["relative"], uses_trace=False)
    rule = "relative-full-rise"


class NoFloor(Untuned):
    """A rate that may fall without end."""

    rule = rule("relative-no-floor", floor=0.0)


class SmallStart(Untuned):
    """A first step ten times smaller."""

    first_step = 1e-3


class NotBounded(Untuned):
    """Adam's direction, however loud the gradient."""

    known_bases = MappingProxyType(
        {**Untuned.known_bases, "adam": not_bounded(Untuned.known_bases["adam"])}
    )


class NoEarlyFall(Untuned):
    """A rate that falls no faster early than later."""

    rule = rule("relative-no-early-fall", early=0.0)


class TenOverT(Untuned):
    """A rate that moves by 10 / t both up and down, as in the first rule."""

    rule = rule("relative-ten-over-t", rising=10.0, falling=10.0, early=0.0)


class PlainSteps(Untuned):
    """SGD whose steps are as long as the gradient; h is over the size of gradients."""

    def begin(self, group: Group) -> AverageNumbers | None:
        """Prepare a step without s_t."""
        numbers = super().begin(group)
        return numbers and numbers._replace(factor=None)


class PlainH(Untuned):
    """SGD whose h is as large as the square of the gradient; steps have the usual length."""

    def begin(self, group: Group) -> AverageNumbers | None:
        """Prepare a step whose h is not divided."""
        numbers = super().begin(group)
        return numbers and numbers._replace(unit=None)


class PlainSGD(Untuned):
    """Both: the form of SGD before results version 7."""

    def begin(self, group: Group) -> AverageNumbers | None:
        """Prepare a step that does not look at the size of gradients."""
        numbers = super().begin(group)
        return numbers and numbers._replace(factor=None, unit=None)
