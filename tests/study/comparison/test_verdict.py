"""The verdict of a comparison, against arithmetic by hand."""

import math

import polars as pl
import pytest

from hypergradient.study.results.compare import contest, seconds_text, sentences

LR = [1e-3, 3e-3, 1e-2]


def run(method, lr, seed, loss, *, adaptive=False, status="done", step=0.002, state=8.0):
    """A row of `runs`, with what a comparison reads."""
    return {
        "run_id": f"{method}{lr}{seed}",
        "study": "compare",
        "task": "my_task.py",
        "method": method,
        "base": "AdamW",
        "adaptive": adaptive,
        "lr": lr,
        "schedule": "constant" if adaptive else "warmup-cosine",
        "seed": seed,
        "status": status,
        "train_loss_final": loss,
        "valid_loss_final": loss,
        "step_seconds": step,
        "state_bytes": state,
    }


def table(*rows):
    return pl.DataFrame(rows, infer_schema_length=None)


def rival(losses, **options):
    """AdamW at three rates and two seeds; `losses` has a pair for each rate."""
    return [
        run("AdamW", lr, seed, loss, **options)
        for lr, pair in zip(LR, losses, strict=True)
        for seed, loss in enumerate(pair)
    ]


def free(*losses, **options):
    return [
        run("Untuned", None, seed, loss, adaptive=True, step=0.003, state=12.0, **options)
        for seed, loss in enumerate(losses)
    ]


def of(runs, method):
    return next(row for row in contest(runs) if row["method"] == method)


def test_the_ratio_is_of_geometric_means_at_the_best_rate():
    runs = table(*rival([(4.0, 4.0), (1.0, 4.0), (8.0, 2.0)]), *free(0.5, 8.0))
    assert of(runs, "AdamW")["lr"] == 3e-3  # geometric means: 4, 2 and 4
    assert of(runs, "AdamW")["valid_loss"] == pytest.approx(2.0)
    row = of(runs, "Untuned")
    assert row["valid_loss"] == pytest.approx(2.0)
    assert row["ratio"] == pytest.approx(math.sqrt(0.5 / 1 * 8 / 4))


def test_the_interval_is_student_s_over_pairs_of_seeds():
    runs = table(*rival([(4.0, 4.0), (1.0, 1.0), (8.0, 8.0)]), *free(1.0, 2.0))
    row = of(runs, "Untuned")
    center, half = math.log10(2) / 2, 12.706204736 * math.log10(2) / 2
    assert row["ratio"] == pytest.approx(10**center)
    assert row["low"] == pytest.approx(10 ** (center - half))
    assert row["high"] == pytest.approx(10 ** (center + half))


def test_the_verdict_comes_first_and_says_what_a_wrong_rate_costs():
    runs = table(*rival([(1.5, 1.5), (1.0, 1.0), (2.0, 2.0)]), *free(0.97, 0.97))
    verdict, off, cost = sentences(contest(runs))
    assert verdict == (
        "Untuned ended at 0.97 times the validation loss of the best of 3 AdamW rates, 0.003 "
        "(95% interval 0.97 to 0.97, 2 seeds)."
    )
    assert off == "AdamW at a rate three times off ended at 1.50 and 2.00 times the best one’s."
    assert cost == (
        "A step of AdamW takes 2 ms, and its state 8 bytes a parameter; Untuned 1.50 times that "
        "and 12 bytes."
    )


def test_a_best_rate_at_the_edge_is_said():
    runs = table(*rival([(4.0, 4.0), (3.0, 3.0), (2.0, 2.0)]), *free(2.0, 2.0))
    assert of(runs, "AdamW")["edge"]
    assert any("edge" in sentence and "0.01" in sentence for sentence in sentences(contest(runs)))


def test_a_rate_at_which_a_seed_diverged_is_not_the_best():
    rows = rival([(4.0, 4.0), (3.0, 3.0), (2.0, 2.0)])
    rows[-1] |= {"status": "diverged", "valid_loss_final": None}
    runs = table(*rows, *free(3.0, 3.0))
    row = of(runs, "AdamW")
    assert (row["lr"], row["lost"]) == (3e-3, 1)
    told = sentences(contest(runs))
    assert "AdamW at a rate three times off ended at 1.33 times the best one’s or diverged." in told
    assert "AdamW diverged at 1 of 3 rates." in told


def test_a_contender_that_diverged_has_no_ratio():
    runs = table(*rival([(4.0, 4.0), (3.0, 3.0), (4.0, 4.0)]), *free(1.0, None, status="diverged"))
    verdict, *_ = sentences(contest(runs))
    assert verdict.startswith("Untuned diverged in 2 of 2 runs, while the best of 3 AdamW rates")


def test_a_rival_that_diverged_everywhere_is_said():
    runs = table(*rival([(None, None)] * 3, status="diverged"), *free(1.0, 2.0))
    verdict, *_ = sentences(contest(runs))
    assert "while AdamW diverged in 2 of 2 runs at each of 3 rates" in verdict


def test_losses_that_are_not_positive_are_compared_by_their_values():
    runs = table(*rival([(-1.0, -1.0), (-2.0, -4.0), (0.0, 0.0)]), *free(-3.5, -3.5))
    row = of(runs, "Untuned")
    assert row["ratio"] is None
    assert row["difference"] == pytest.approx(-0.5)
    verdict, *_ = sentences(contest(runs))
    assert "at the validation loss -3.5, the best of 3 AdamW rates, 0.003 at -3" in verdict


def test_one_seed_is_called_chance():
    rows = [row for row in (*rival([(4, 4), (3, 3), (4, 4)]), *free(3, 3)) if row["seed"] == 0]
    assert "(one seed, so this may be chance)" in sentences(contest(table(*rows)))[0]


def test_the_rival_is_known_by_its_rates_and_not_by_its_name():
    renamed = [row | {"method": "Mine"} for row in rival([(4, 4), (3, 3), (4, 4)])]
    adaptive = [
        run("AdamW", lr, seed, 1.0, adaptive=True) for lr in (*LR, 1e-1) for seed in range(2)
    ]
    rows = contest(table(*adaptive, *renamed))
    assert [row["method"] for row in rows if row["is_rival"]] == ["Mine"]


def test_without_a_rival_there_is_no_verdict():
    assert sentences(contest(table(*free(1.0, 2.0)))) == [
        "No optimizer was run from several rates, so none is the rival."
    ]


def test_failed_runs_are_counted():
    failed = [row | {"status": "failed"} for row in free(1.0)]
    runs = table(*rival([(4, 4), (3, 3), (4, 4)]), *free(1.0, 1.0)[1:], *failed)
    assert "Runs failed: Untuned 1." in sentences(contest(runs))


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.2e-5, "42 µs"), (None, "–")]
)
def test_times_are_read_by_people(seconds, text):
    assert seconds_text(seconds) == text
