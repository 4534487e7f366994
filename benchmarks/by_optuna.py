"""The grid by Optuna's GridSampler, in processes that share a journal file, as its manual advises.

    python benchmarks/by_optuna.py --out FILE [--runs 42] [--epochs 1] [--processes 2]

Threads (`n_jobs`) are no choice: a small model's loop holds the interpreter's lock.
"""

import multiprocessing
import tempfile
from pathlib import Path

import optuna
import torch
from by_hand import SETTINGS, options, read, train, write
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


def open_study(journal: Path, runs: int) -> optuna.Study:
    """Open the study that all processes share, over an index: the grid is not a full product."""
    sampler = optuna.samplers.GridSampler({"setting": list(range(runs))}, seed=0)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.create_study(
        study_name="grid", storage=storage, sampler=sampler, load_if_exists=True
    )


def work(journal: Path, runs: int, epochs: int, data_dir: Path | None) -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    split = read(data_dir)

    def objective(trial: optuna.Trial) -> float:
        lr, hypergrad_lr = SETTINGS[trial.suggest_int("setting", 0, runs - 1)]
        train_loss, test_loss = train(split, lr, hypergrad_lr, epochs)
        trial.set_user_attr("train_loss", train_loss)
        return test_loss

    open_study(journal, runs).optimize(objective, catch=(RuntimeError, ValueError))


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal.log"
        study = open_study(journal, chosen.runs)
        work_on = (journal, chosen.runs, chosen.epochs, chosen.data_dir)
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=work, args=work_on) for _ in range(chosen.processes)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        trials = study.get_trials()
    write(
        chosen.out,
        [
            (*SETTINGS[t.params["setting"]], t.user_attrs.get("train_loss"), t.value)
            for t in trials
            if t.state.is_finished()
        ],
    )


if __name__ == "__main__":
    main()
