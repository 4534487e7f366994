"""What fits into a time budget."""

import pytest

from hypergradient.study.comparison.budget import SHARE, STARTING_SECONDS, Size, fit, seconds_of
from hypergradient.study.errors import StudyError
from hypergradient.study.run.plan import Cost

ASKED = Size(rates=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2), seeds=3, epochs=10)
COSTS = {  # an epoch takes 1 s, and an evaluation 0.1 s
    name: Cost("t", name, 1, 0.01, 0.0, valid_seconds=0.1, epoch_steps=100)
    for name in ("AdamW", "Untuned")
}
COUNTS = {"AdamW": None, "Untuned": 1}


def seconds(runs, epochs, steps=100):
    """By hand, of one process."""
    return runs * (epochs * steps * 0.01 + (epochs + 1) * 0.1)


def budget(planned, workers=1):
    """The budget of which so many seconds are for runs."""
    return (planned / workers + STARTING_SECONDS) / SHARE


def test_all_that_was_asked_is_taken_if_it_fits():
    assert fit(budget(seconds(18, 10)) + 0.1, ASKED, COSTS, COUNTS, 1) == ASKED


def test_epochs_are_given_up_first():
    size = fit(budget(seconds(18, 7)) + 0.1, ASKED, COSTS, COUNTS, 1)
    assert (size.rates, size.seeds, size.epochs) == (ASKED.rates, 3, 7)


def test_then_seeds():
    size = fit(budget(seconds(12, 6)) + 0.1, ASKED, COSTS, COUNTS, 1)
    assert (len(size.rates), size.seeds, size.epochs) == (5, 2, 6)


def test_then_rates_of_which_the_middle_ones_stay():
    size = fit(budget(seconds(8, 5)) + 0.1, ASKED, COSTS, COUNTS, 1)
    assert (size.rates, size.seeds, size.epochs) == ((3e-4, 1e-3, 3e-3), 2, 5)


def test_then_the_rest_of_the_epochs():
    size = fit(budget(seconds(4, 2)) + 0.1, ASKED, COSTS, COUNTS, 1)
    assert (len(size.rates), size.seeds, size.epochs, size.steps) == (3, 1, 2, None)


def test_at_last_a_run_is_less_than_an_epoch():
    size = fit(budget(seconds(4, 1, steps=50)) + 0.01, ASKED, COSTS, COUNTS, 1)
    assert (size.seeds, size.epochs, size.steps) == (1, 1, 50)
    assert size.text() == "3 rates x 1 seed x 50 steps"


def test_too_little_is_refused_and_the_least_is_named():
    with pytest.raises(StudyError, match="--budget 6 s is too little: 20 steps"):
        fit(6.0, ASKED, COSTS, COUNTS, 1)


def test_processes_share_the_work():
    assert fit(budget(seconds(18, 10), workers=2) + 0.1, ASKED, COSTS, COUNTS, 2) == ASKED


@pytest.mark.parametrize(
    ("text", "value"), [("90s", 90), ("10m", 600), ("10 min", 600), ("1.5h", 5400)]
)
def test_a_budget_is_a_time(text, value):
    assert seconds_of(text) == value


@pytest.mark.parametrize("text", ["", "10", "m", "-3m", "0s", "ten minutes"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(StudyError, match="write it as 90s, 10m or"):
        seconds_of(text)
