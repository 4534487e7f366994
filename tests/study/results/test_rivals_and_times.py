"""One rate for all tasks, and steps to the tuned rival's loss: equal to what a hand computes."""

import math
import statistics as plain

import polars as pl
import pytest
from figure_tables import runs_table
from scipy import stats

from hypergradient.study.report.headline import nearness
from hypergradient.study.results.schema import EPOCHS_SCHEMA
from hypergradient.study.results.statistics import UntunedStatistics

SELECTION = ("a",)

# Final losses by rate and task. NAdam is not tuned for each task.
LOSSES = {
    ("Adam", "constant"): {
        1e-3: {"a": 0.4, "b": 0.2, "c": 0.1},
        1e-2: {"a": 0.2, "b": 0.8, "c": 0.4},
    },
    ("Adam", "warmup-cosine"): {
        1e-3: {"a": 0.1, "b": 0.4, "c": 0.4},
        1e-2: {"a": 0.3, "b": 0.1, "c": 0.1},
    },
    ("NAdam", "warmup-cosine"): {1e-2: {"a": 0.25, "b": 0.5, "c": 0.2}},
    ("Prodigy", "constant"): {None: {"a": 0.1, "b": 0.1, "c": 0.3}},
}
FASTER = {("Prodigy", "a"): 2}  # how often it needs half as long


def tables(
    seeds: tuple[int, ...] = (0,), late: tuple[int, ...] = ()
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Runs whose loss is 2 before training and has its last value from epoch 4 of 4 on.

    Args:
        seeds: The seeds. They have the same losses.
        late: Those in which Prodigy never gets below 1 on task a.
    """
    rows, epochs = [], []
    for (method, schedule), rates in LOSSES.items():
        for lr, finals in rates.items():
            for task, final in finals.items():
                for seed in seeds:
                    end = 1.0 if seed in late and (method, task) == ("Prodigy", "a") else final
                    run_id = f"run{len(rows)}"
                    rows.append(
                        {"run_id": run_id, "task": task, "method": method, "schedule": schedule}
                        | {"lr": lr, "seed": seed, "adaptive": method == "Prodigy"}
                        | {"base": "Adam" if method == "Prodigy" else method}
                        | dict.fromkeys(
                            ("train_loss_final", "train_loss_best", "valid_loss_final"), end
                        )
                        | {"valid_loss_best": end, "constant_loss": 2.0, "engine": "one by one"}
                    )
                    done = 4 // FASTER.get((method, task), 1)
                    for epoch in range(5):
                        loss = end if epoch >= done else 2.0
                        epochs.append(
                            {"run_id": run_id, "epoch": epoch, "step": 10 * epoch}
                            | {"train_loss": loss, "valid_loss": loss, "seconds": 1.0}
                        )
    return runs_table(rows), pl.DataFrame(
        [{key: row.get(key) for key in EPOCHS_SCHEMA} for row in epochs], EPOCHS_SCHEMA
    )


def test_the_one_rate_is_chosen_on_selection_tasks_and_used_on_all() -> None:
    own = UntunedStatistics.of(*tables(), SELECTION)
    rates = own.singles.filter(measure="train_loss_final").select("line", "start").rows()
    # On b and c the other rates would be better, but nothing is chosen there.
    assert sorted(rates) == [
        ("Adam, constant", 1e-2),
        ("Adam, warmup-cosine", 1e-3),
        ("NAdam, warmup-cosine", 1e-2),
    ]
    scores = {
        (row["line"], row["set"]): row
        for row in own.scores.filter(measure="train_loss_final").to_dicts()
    }
    # The best tuned rate, constant or decayed, has 0.2, 0.2 and 0.1 on the tasks.
    for line, losses in {
        "Adam, constant, one rate": (0.2, 0.8, 0.4),
        "Adam, warmup-cosine, one rate": (0.1, 0.4, 0.4),
        "NAdam, warmup-cosine, one rate": (0.25, 0.5, 0.2),
    }.items():
        a, b, c = (loss / tuned for loss, tuned in zip(losses, (0.2, 0.2, 0.1), strict=True))
        assert scores[line, "selection"]["mean"] == pytest.approx(a)
        claim = scores[line, "claim"]
        assert claim["mean"] == claim["default"] == pytest.approx(math.sqrt(b * c))
        assert claim["worst"] == pytest.approx(max(b, c))
        assert (claim["single"], claim["tuned"], claim["runs"]) == (True, False, 2)


def test_the_headline_tells_the_best_single_rate() -> None:
    own = UntunedStatistics.of(*tables(), SELECTION)
    sentence = nearness(own.scores)[-1]
    assert "one rate" in sentence
    assert f"{math.sqrt(2.5 * 2):.3g} times in the mean and 2.5 at worst" in sentence
    assert "(NAdam, warmup-cosine, one rate)" in sentence
    assert "one rate" not in nearness(own.scores)[0]


def test_each_measure_has_its_own_one_rate() -> None:
    runs, epochs = tables()
    worse = (pl.col("method") == "Adam") & (pl.col("lr") == 1e-2)
    runs = runs.with_columns(valid_loss_best=pl.when(worse).then(1.9).otherwise("valid_loss_best"))
    own = UntunedStatistics.of(runs, epochs, SELECTION)
    chosen = own.singles.filter(line="Adam, constant")
    rates = dict(chosen.select("measure", "start").rows())
    assert (rates["train_loss_final"], rates["valid_loss_best"]) == (1e-2, 1e-3)
    row = own.by_task.filter(line="Adam, constant, one rate", task="a")
    losses = dict(row.select("measure", "loss").rows())
    assert losses["train_loss_final"] == pytest.approx(0.2)
    assert losses["valid_loss_best"] == pytest.approx(0.4)


def test_without_selection_tasks_no_rate_is_chosen() -> None:
    own = UntunedStatistics.of(*tables(), ())
    assert own.singles.is_empty()
    assert not own.scores["single"].any()
    assert own.time_scores.filter(line="Prodigy").height


def test_times_are_steps_until_the_tuned_loss() -> None:
    own = UntunedStatistics.of(*tables(), SELECTION)
    found = {
        (line, task): (target, steps, factor)
        for line, task, target, steps, factor in own.times.filter(measure="train_loss_final")
        .select("line", "task", "target", "steps", "factor")
        .rows()
    }
    rival = "Adam, a rate for each task"
    for task, target in (("a", 0.2), ("b", 0.2), ("c", 0.1)):
        assert found[rival, task][0] == pytest.approx(target)
        assert found[rival, task][1] == 40
    assert found["Prodigy", "a"][1:] == (20, 1.0)  # half as long, so the rival has a factor of 2
    assert found[rival, "a"][2] == 2.0
    assert found["Prodigy", "b"][1:] == (40, 1.0)
    assert found["Prodigy", "c"][1:] == (None, None)  # 0.3 is above the target
    assert found["Adam, warmup-cosine, one rate", "a"][1:] == (40, 2.0)
    assert found["Adam, warmup-cosine, one rate", "c"][1:] == (None, None)


def test_the_profile_and_the_score_are_those_of_the_definition() -> None:
    own = UntunedStatistics.of(*tables(), ())  # all tasks in one set
    profile = own.time_profile.filter(measure="train_loss_final", set="claim")

    def steps(line: str) -> list[tuple[float, float]]:
        return profile.filter(line=line).select("tau", "share").rows()

    assert steps("Prodigy") == [(1.0, pytest.approx(2 / 3))]  # never on c
    assert steps("Adam, a rate for each task") == [(1.0, pytest.approx(2 / 3)), (2.0, 1.0)]
    scores = own.time_scores.filter(measure="train_loss_final", set="claim")
    rows = {row["line"]: row for row in scores.to_dicts()}
    # A third of the tasks joins at 2 of 1 to 4, so it counts for (4 - 2) / (4 - 1).
    rival = rows["Adam, a rate for each task"]
    assert rival["score"] == pytest.approx((2 + 2 / 3) / 3)
    assert [rival[n] for n in ("within_1", "within_2", "reached")] == pytest.approx([2 / 3, 1, 1])
    assert rows["Prodigy"]["score"] == rows["Prodigy"]["reached"] == pytest.approx(2 / 3)
    assert rival["score_low"] is None  # one seed has no interval


def test_shares_have_student_s_intervals_over_seeds() -> None:
    own = UntunedStatistics.of(*tables(seeds=(0, 1, 2), late=(2,)), ())
    (row,) = own.time_scores.filter(measure="train_loss_final", line="Prodigy").to_dicts()
    seeds = [2 / 3, 2 / 3, 1 / 3]
    half = stats.t.ppf(0.975, 2) * plain.stdev(seeds) / math.sqrt(3)
    assert row["reached"] == pytest.approx(plain.fmean(seeds))
    assert row["reached_low"] == pytest.approx(plain.fmean(seeds) - half)
    assert row["reached_high"] == 1.0  # a share is no larger
