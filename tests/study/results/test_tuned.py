"""Hyperparameters are tuned over all seeds, and a best value on the edge is told."""

import polars as pl
import pytest

from hypergradient.study.results.tuned import tuned

NAMES = ["lr", "hypergrad_lr"]


def table(rows, seeds=2):
    """Rows (method, lr, hypergrad_lr, losses of the seeds)."""
    content = [
        {
            "task": "t",
            "base": "SGD",
            "method": method,
            "schedule": "constant",
            "lr": lr,
            "hypergrad_lr": beta,
        }
        | {"status": "diverged" if losses[seed] is None else "done"}
        | {"seed": seed, "train_loss_final": losses[seed], "train_accuracy_final": losses[seed]}
        for method, lr, beta, losses in rows
        for seed in range(seeds)
    ]
    floats = dict.fromkeys(["lr", "hypergrad_lr", "train_loss_final"], pl.Float64)
    return pl.DataFrame(content, schema_overrides=floats)


def best(rows, **options):
    return tuned(table(rows), NAMES, **options).rows(named=True)


def test_the_least_mean_over_seeds_is_chosen_not_the_least_loss():
    rows = [
        ("SGD", 0.1, None, [0.1, 3.0]),
        ("SGD", 0.2, None, [1.0, 1.0]),
        ("SGD", 0.3, None, [2, 2]),
    ]
    (row,) = best(rows)
    assert (row["lr"], row["mean"], row["seeds"], row["edge"]) == (0.2, 1.0, 2, [])


@pytest.mark.parametrize(
    ("losses", "edge"), [([1, 2, 3], ["lr"]), ([2, 1, 3], []), ([3, 2, 1], ["lr"])]
)
def test_a_best_value_on_the_edge_is_flagged(losses, edge):
    rows = [("SGD", 10.0**place, None, [loss, loss]) for place, loss in enumerate(losses)]
    assert best(rows)[0]["edge"] == edge


def test_a_grid_of_one_value_has_no_edge():
    assert best([("SGD", 0.1, None, [1, 1])])[0]["edge"] == []


def test_each_base_is_tuned_on_its_own():
    runs = pl.concat(
        table([("SGD", lr, None, [abs(lr - best)] * 2) for lr in (0.1, 0.2, 0.3)]).with_columns(
            base=pl.lit(base)
        )
        for base, best in (("SGD", 0.1), ("SGDM", 0.2))
    )
    chosen = {row["base"]: (row["lr"], row["edge"]) for row in tuned(runs, NAMES).rows(named=True)}
    assert chosen == {"SGD": (0.1, ["lr"]), "SGDM": (0.2, [])}


def test_hyperparameters_are_chosen_together():
    rows = [("SGD-HD", lr, beta, [lr + beta] * 2) for lr in (1.0, 2.0) for beta in (1.0, 2.0)]
    (row,) = best(rows)
    assert (row["lr"], row["hypergrad_lr"], row["edge"]) == (1.0, 1.0, ["lr", "hypergrad_lr"])


def test_what_some_seed_did_not_survive_is_chosen_last():
    rows = [("SGD", 0.1, None, [0.1, None]), ("SGD", 0.2, None, [1.0, 1.0])]
    assert best(rows)[0]["lr"] == 0.2
    only = best(rows[:1])[0]
    assert (only["lr"], only["seeds"], only["complete"]) == (0.1, 1, False)
    assert best([("SGD", 0.1, None, [None, None])]) == []


def test_the_loss_of_a_run_that_diverged_does_not_count():
    rows = table([("SGD", 0.1, None, [0.1, 0.1]), ("SGD", 0.2, None, [1.0, 1.0])])
    lost = pl.when(pl.col("lr") == 0.1, pl.col("seed") == 1).then(pl.lit("diverged"))
    runs = rows.with_columns(status=lost.otherwise("status"))
    assert tuned(runs, NAMES)["lr"].to_list() == [0.2]


def test_accuracies_are_best_where_they_are_largest():
    rows = [("SGD", 0.1, None, [0.5, 0.5]), ("SGD", 0.2, None, [0.9, 0.9])]
    assert best(rows, metric="train_accuracy_final")[0]["lr"] == 0.2
