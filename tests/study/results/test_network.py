"""The comparison on networks: no seed judges itself, and a diverged run is never hidden."""

import polars as pl
import pytest

from hypergradient.study.errors import StudyError
from hypergradient.study.results.network import chosen, compare, label


def runs(losses, **columns):
    """Runs of GD with a constant rate; `losses` is {rate: losses by seed}, None is diverged."""
    rows = [
        {
            "method": "SGD",
            "base": "SGD",
            "granularity": None,
            "lr": lr,
            "hypergrad_lr": None,
            "seed": seed,
            "status": "diverged" if loss is None else "done",
            "train_loss_final": loss,
            "valid_loss_final": loss,
            "valid_accuracy_final": 0.5,
            **columns,
        }
        for lr, of_seeds in losses.items()
        for seed, loss in enumerate(of_seeds)
    ]
    schema = {"granularity": pl.String, "hypergrad_lr": pl.Float64}
    return pl.DataFrame(rows, schema_overrides=schema)


def test_a_seed_is_judged_by_the_others():
    """At 0.2 seed 0 was lucky, which alone would choose it; the others say 0.1."""
    table = label(runs({0.1: [0.5, 0.5, 0.5], 0.2: [1e-9, 1.0, 1.0]}))
    picked = chosen(table).sort("seed")
    assert picked["seed"].to_list() == [0, 1, 2]
    assert picked["lr"].to_list() == [0.1, 0.2, 0.2]


def test_a_setting_that_lost_another_seed_is_not_chosen():
    table = label(runs({0.1: [0.5, 0.5, 0.5], 0.2: [None, 0.01, 0.01]}))
    assert chosen(table).sort("seed")["lr"].to_list() == [0.2, 0.1, 0.1]
    row = compare(table).row(0, named=True)
    assert (row["loss"], row["lost"], row["diverged"], row["settings"]) == (None, 1, 1, 2)


def test_means_and_intervals_are_geometric():
    table = pl.concat(
        [
            runs({0.1: [0.01, 0.1, 1.0]}),
            runs({0.1: [0.02, 0.2, 2.0]}, granularity="element", hypergrad_lr=3.0),
        ]
    )
    constant, own = compare(label(table)).iter_rows(named=True)
    assert (constant["rate"], own["rate"]) == ("constant", "element-wise")
    assert constant["loss"] == pytest.approx(0.1)
    # Student's t of 2 degrees of freedom, 95 %: 4.3027
    assert constant["loss_high"] == pytest.approx(0.1 * 10 ** (4.3027 / 3**0.5), rel=1e-4)
    assert own["ratio"] == pytest.approx(2.0)
    assert own["ratio_low"] == pytest.approx(own["ratio_high"])
    assert own["setting"] == {"lr": 0.1, "hypergrad_lr": 3.0}


@pytest.mark.parametrize(
    ("base", "name"), [("SGD", "GD"), ("SGDM", "GDM"), ("SGDN", "NAG"), ("Adam", "Adam")]
)
def test_bases_have_the_source_s_names(base, name):
    assert label(runs({0.1: [1.0]}, base=base))["base"].to_list() == [name]


def test_a_table_that_did_not_record_the_base_is_told_so():
    with pytest.raises(StudyError, match="hypergradient report"):
        label(runs({0.1: [1.0]}).drop("base"))
