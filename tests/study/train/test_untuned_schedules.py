"""A study runs `Untuned` with a schedule too: it is a factor on the learned rate."""

from pathlib import Path

from hypergradient.study.declare.load import load_study
from hypergradient.study.declare.run import Run
from hypergradient.study.tasks.data.load import load_data
from hypergradient.study.train.initial import initial_model
from hypergradient.study.train.training import train

STUDY = Path(__file__).parents[3] / "benchmarks" / "schedules-on-untuned.toml"


def last_rates(schedule: str) -> list[float]:
    run = Run(
        task="digits-mlp",
        method="Untuned",
        hyper={"lr": 1.0},
        schedule=schedule,
        seed=0,
        study_seed=0,
        epochs=6,
        batch_size=128,
        weight_decay=0.0,
    )
    records = list(train(run, initial_model(run), load_data("digits")))
    assert records[-1].train_loss < 0.5 * records[0].train_loss
    return [record.lr_max for record in records]


def test_a_cosine_lowers_the_rate_that_is_learned() -> None:
    constant, cosine = last_rates("constant"), last_rates("cosine")
    assert cosine[-1] < 0.2 * constant[-1]
    assert 0 < max(cosine) < 1


def test_the_study_of_the_table_loads() -> None:
    study = load_study(STUDY, "laptop")
    assert {run.schedule for run in study.runs()} == {"constant", "lr-decay", "cosine"}
