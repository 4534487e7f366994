"""What a report says first is computed from its tables."""

import polars as pl
from figure_tables import epochs_table, heatmap_runs, runs_table, schedules_tables

from hypergradient.study.report import headline
from hypergradient.study.results import pairs, sensitivity
from hypergradient.study.results.statistics import Statistics


def said(runs: pl.DataFrame) -> list[str]:
    return headline.losses(
        sensitivity.summary(sensitivity.by_rate(pairs.pair(runs), "train_loss")), runs
    )


def test_headline_follows_the_data() -> None:
    ends = {("SGD", 0.1): 4.0, ("SGD", 1.0): 0.2, ("SGD-HD", 0.1): 0.5, ("SGD-HD", 1.0): 0.4}
    runs = runs_table(
        [
            {"method": method, "lr": lr, "loss": loss, "hypergrad_lr": 1e-3 * method.endswith("HD")}
            for (method, lr), loss in ends.items()
        ]
    )
    assert said(runs) == [
        (
            "From α₀ = 0.1, the lowest tried, the final training loss with a constant rate is "
            "8 (SGD) times that of hypergradient descent."
        ),
        "From the best α₀ of each it is 0.5 (SGD) times; no run diverged.",
    ]


def test_headline_names_who_diverged_and_compares_nothing_that_did() -> None:
    runs = runs_table(
        [
            {"method": method, "lr": lr, "loss": loss, "hypergrad_lr": beta, "status": status}
            for method, beta, first in (("SGD", None, 0.2), ("SGD-HD", 1e-3, None))
            for lr, loss in ((0.1, first), (1.0, 0.1))
            for status in ["done" if loss else "diverged"]
        ]
    )
    first, second = said(runs)
    assert "is not comparable with that of" in first
    assert second == (
        "From the best α₀ of each it is 1 (SGD) times; 1 of 4 runs diverged (SGD-HD 1)."
    )


def test_headline_with_a_single_rate_compares_losses() -> None:
    runs = runs_table(
        [
            {"method": "SGD", "lr": 0.1, "loss": 0.4},
            {"method": "SGD-HD", "lr": 0.1, "loss": 0.2, "hypergrad_lr": 1e-3},
        ]
    )
    (only,) = said(runs)
    assert only == (
        "The final training loss with a constant rate is 2 (SGD) times that of hypergradient "
        "descent; no run diverged."
    )


def test_headline_of_a_heat_map_counts_its_cells() -> None:
    runs = heatmap_runs()
    first, second, third = headline.headline(Statistics(runs, epochs_table(runs)), ["heatmap"])
    assert first.endswith("from the same α₀ in 2 of 4 (SGD) pairs of α₀ and β.")
    assert second == (
        "The target was reached by 3 of 6 runs with a constant rate and by 10 of 12 with "
        "hypergradient descent."
    )
    assert third == "No run diverged."


def test_headline_of_schedules_counts_verdicts_and_widths() -> None:
    verdicts, widths, diverged = headline.headline(
        Statistics(*schedules_tables()), ["best", "relative"]
    )
    assert verdicts == (
        "Each at its best, hypergradient descent’s final training loss is against a constant rate "
        "comparable in 0, better in 1 and worse in 0 of 1 settings (0.5 times its loss); against "
        "lr-decay comparable in 1, better in 0 and worse in 0 of 1 settings (1 times its loss)."
    )
    assert widths.startswith("Decades of α₀ within 10 %")
    assert "(lr-decay)" in widths
    assert diverged == "No run diverged."


def test_headline_of_verdicts_gives_the_range_of_the_ratios() -> None:
    tally = {"metric": "train_loss", "rival": "lr-decay", "settings": 3, "undecided": 0}
    tally |= {"better": 1, "comparable": 1, "worse": 1, "lowest": 0.456, "highest": 2.34}
    (told,) = headline.verdicts(pl.DataFrame([tally]))
    assert told.endswith("worse in 1 of 3 settings (0.46 to 2.3 times its loss).")


def test_headline_of_tuning_compares_the_first_setting_with_the_best() -> None:
    runs = runs_table(
        [
            {"method": "SGD-HD", "lr": lr, "hypergrad_lr": 1e-3, "loss": loss, "task": task}
            for task, factor in (("one", 1.0), ("two", 4.0))
            for lr, loss in ((0.1, 0.5 * factor), (1.0, 0.5))
        ]
    )
    told = headline.headline(Statistics(runs, epochs_table(runs)), ["tuning"])
    assert told[0] == "As recommended, the final training loss is 2 (SGD-HD) times that as tuned."
