"""`--log`: each run that has ended is handed over once, and training knows nothing of it.

The services themselves are in tests/integrations/test_log_services.py.
"""

import fcntl

import pytest

from hypergradient.study.log import logger as logging_module
from hypergradient.study.log import services
from hypergradient.study.log.logger import LOGGED, Logger, logging, numbers_of
from hypergradient.study.log.services import ServiceName
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work

TENSORBOARD = ServiceName.tensorboard


@pytest.fixture
def taken(monkeypatch):
    """What a service was given, in place of TensorBoard."""
    given = []
    monkeypatch.setattr(services, "find_spec", lambda _: True)
    monkeypatch.setitem(services.WRITE, TENSORBOARD, lambda log, _: given.append(log))
    return given


def logger_of(study, store, complaints):
    return Logger(study.runs(), store, TENSORBOARD, complaints.append)


@pytest.mark.usefixtures("no_page")
def test_the_command_logs_each_run_once_with_its_numbers(command, study_file, taken):
    file = study_file()
    code, shown, complaint = command("run", file, "--log", "tensorboard", "--workers", 1)
    assert (code, complaint) == (0, "")
    assert "12 runs logged: tensorboard --logdir results/small/tensorboard" in shown
    assert len({log.id for log in taken}) == len(taken) == 12

    log = taken[0]
    assert log.name == "digits-logreg SGD lr=0.001 seed=0"
    assert log.project == "small"
    assert [step for step, _ in log.rows] == [0, 6, 12]
    assert {"train_loss", "valid_accuracy", "lr_mean", "epoch"} <= set(log.rows[-1][1])
    assert log.rows[-1][1]["lr_mean"] == pytest.approx(1e-3)
    assert (log.config["lr"], log.config["seed"], log.config["state"]) == (1e-3, 0, "done")

    code, shown, _ = command("run", file, "--log", "tensorboard")
    assert code == 0
    assert "0 runs logged" in shown
    assert len(taken) == 12


@pytest.mark.usefixtures("no_page")
def test_numbers_and_ids_are_those_without_it(command, study_file, taken):
    file = study_file()
    command("run", file, "--out", "with", "--log", "tensorboard", "--workers", 1)
    command("run", file, "--out", "without", "--workers", 1)

    def lines(folder):
        found = {}
        for path in file.parent.joinpath(folder, "runs").glob("*/metrics.jsonl"):
            text = path.read_text(encoding="utf-8")
            found[path.parent.name] = [line.partition('"seconds"')[0] for line in text.splitlines()]
        return found

    assert len(taken) == 12
    assert lines("with") == lines("without")


def test_a_run_is_logged_when_it_has_ended_and_not_before(small, tmp_path, taken):
    store, runs = Store(tmp_path / "results"), small.runs()
    logger = logger_of(small, store, [])
    with store.claim(runs[0]) as claim, claim.metrics([{"epoch": 0, "step": 0}]):
        logger.log_ended()
        assert taken == []
    work(runs[:2], store, None)
    logger.log_ended()
    assert [log.id for log in taken] == [run.id for run in runs[:2]]
    work(runs, store, None)
    logger_of(small, store, []).log_ended()  # the command that resumes
    assert sorted(log.id for log in taken) == sorted(run.id for run in runs)


def test_a_look_is_due_every_two_seconds(small, tmp_path, taken, monkeypatch):
    store, now = Store(tmp_path / "results"), [0.0]
    monkeypatch.setattr(logging_module.time, "monotonic", lambda: now[0])
    logger = logger_of(small, store, [])
    work(small.runs()[:1], store, None)
    logger.look()
    assert taken == []
    now[0] += 2
    logger.look()
    assert len(taken) == 1


def test_of_two_commands_at_once_one_logs(small, tmp_path, taken):
    store = Store(tmp_path / "results")
    work(small.runs()[:1], store, None)
    (store.folder / "tensorboard").mkdir()
    with (store.folder / "tensorboard" / LOGGED).open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        logger = logger_of(small, store, [])
        logger.log_ended()
        assert taken == []
    logger.log_ended()
    assert len(taken) == 1


@pytest.mark.usefixtures("no_page")
def test_a_service_that_fails_is_said_once_and_ends_no_training(
    command, study_file, taken, monkeypatch
):
    def refuse(log, _):
        if len(taken) == 3:
            raise RuntimeError("no more room")
        taken.append(log)

    monkeypatch.setitem(services.WRITE, TENSORBOARD, refuse)
    code, shown, complaint = command("run", study_file(), "--log", "tensorboard", "--workers", 1)
    assert code == 0
    assert "12 runs: 12 done" in shown
    assert "tensorboard does not take the runs: RuntimeError: no more room" in complaint
    assert complaint.count("\n") == 1
    monkeypatch.setitem(services.WRITE, TENSORBOARD, lambda log, _: taken.append(log))
    _, shown, _ = command("run", study_file(), "--log", "tensorboard")
    assert "9 runs logged" in shown
    assert len({log.id for log in taken}) == 12


def test_a_package_that_is_not_there_is_said_before_any_training(
    command, study_file, monkeypatch, tmp_path
):
    monkeypatch.setattr(services, "find_spec", lambda _: None)
    code, _, complaint = command("run", study_file(), "--log", "wandb")
    assert code == 2
    assert "--log wandb needs wandb: pip install" in complaint
    assert "[log]" in complaint
    assert not (tmp_path / "results").exists()
    code, _, complaint = command("run", study_file(), "--log", "mlflow")
    assert code == 2
    assert "'tensorboard', 'wandb', 'trackio'" in complaint


def test_an_interrupted_block_logs_nothing_more(small, tmp_path, taken):
    store = Store(tmp_path / "results")
    work(small.runs()[:1], store, None)
    with (
        pytest.raises(KeyboardInterrupt),
        logging(small.runs(), store, TENSORBOARD, print, print),
    ):
        raise KeyboardInterrupt
    assert taken == []


def test_a_value_that_was_not_finite_is_left_out():
    record = {"epoch": 1, "step": 6, "train_loss": None, "lr_mean": 0.1, "target_step": 3}
    assert numbers_of(record) == {"epoch": 1, "lr_mean": 0.1}
