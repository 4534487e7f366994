"""Names and texts of others: none leaves its folder, moves the cursor or is a formula."""

from pathlib import Path

import polars as pl
import pytest
from processes import record

from hypergradient.study import cli
from hypergradient.study.errors import StudyError, one_line, printable
from hypergradient.study.files import as_text
from hypergradient.study.results.write import write_tables
from hypergradient.study.run import execute as execution
from hypergradient.study.run.execute import Progress
from hypergradient.study.run.progress import plain_lines, time
from hypergradient.study.run.store import Store

SCALED = '[scale."{}"]\nepochs = 1\n'


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(execution, "execute", lambda *_, **__: pytest.fail("trains"))


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("name", ["../../up", "a/b", r"a\\b", "..", r"\u001b[2J", r"a\u0000b", ""])
def test_a_scale_s_name_that_leaves_the_folder_is_refused(study_file, command, name):
    path = study_file()
    path.write_text(path.read_text() + SCALED.format(name))
    for verb in ("run", "status", "clean"):
        code, _, complaint = command(verb, path)
        assert code == 2
        (line,) = complaint.splitlines()
        assert line.isprintable()
        assert "cannot be a part of a folder's name" in line


@pytest.mark.usefixtures("no_training")
def test_a_file_s_name_that_is_a_way_up_is_refused(study_file, command, tmp_path):
    path = study_file().rename(tmp_path / "...toml")  # the name of the study is ".."
    code, _, complaint = command("run", path)
    assert code == 2
    assert "the name '..' cannot be a part of a folder's name" in complaint


@pytest.mark.parametrize("out", ["a\0b", "\x1b[2J\0"])
def test_a_nul_in_a_name_is_one_line(out):
    for look in (cli.check_writable, lambda path: cli.declared_and_store("demo", None, path)):
        with pytest.raises(StudyError, match="a name cannot have a NUL in it") as error:
            look(Path(out))
        assert str(error.value).isprintable()


def test_escapes_are_shown_and_not_obeyed(study_file, command, tmp_path, small):
    """In a study's own texts, and in the error of a run, also one that an older version wrote."""
    path = study_file()
    path.write_text(path.read_text().replace("seeds", 'time = "\\u001b[31mred\\u0007"\nseeds', 1))
    path.write_text(path.read_text() + SCALED.format("laptop"))
    store = Store(tmp_path / "out")
    run = small.runs()[0].model_copy(update={"epochs": 1})
    run.__dict__.pop("id", None)
    with store.claim(run) as claim:
        claim.fail("Traceback\n\x1b[2JValueError: \x1b]0;title\x07 caf\udce9\n")
    content = (store.folder_of(run) / "traceback.txt").read_text()
    assert content == "Traceback\n\\x1b[2JValueError: \\x1b]0;title\\x07 caf\\xdce9\n"
    (store.folder_of(run) / "status.json").write_text(
        '{"state": "failed", "error": "\\u001b[2J gone"}'
    )
    code, shown, complaint = command("status", path, "--out", "out")
    assert (code, complaint) == (0, "")
    assert all(line.isprintable() for line in shown.splitlines())
    assert "\\x1b[31mred\\x07" in shown
    assert "\\x1b[2J gone" in shown
    record("escapes in names and errors", 3, 0, 0, "shown as text, such as \\x1b[2J")


@pytest.mark.parametrize("name", ["status.json", "metrics.jsonl"])
def test_json_nested_without_end_is_damage(study_file, command, tmp_path, small, name):
    store, run = Store(tmp_path / "out"), small.runs()[0]
    with store.claim(run) as claim:
        with claim.metrics([{}]):
            pass
        claim.finish({"state": "done", "records": 1})
    (store.folder_of(run) / name).write_text("[" * 100_000 + "\n{}\n")
    code, shown, complaint = command("status", study_file(), "--out", "out")
    assert (code, complaint) == (0, "")
    assert "1 damaged" in shown


def test_texts_of_any_kind_can_be_shown():
    assert printable("a\nb\x9b\u202e\udc80") == "a\nb\\x9b\\x202e\\xdc80"
    assert one_line("a\nb \x1b") == "a b \\x1b"


FORMULAS = ["=1+1", "+cmd", "-cmd", "@SUM(A1)", "\t=1", "\r=1"]
TEXTS = ["a=1", "-1.5", "+inf", "own.py:f", "", None]


def test_no_text_in_a_csv_file_is_a_formula(tmp_path):
    table = pl.DataFrame({"method": FORMULAS + TEXTS, "lr": [-1.0] * 12})
    shown = as_text(table)
    assert shown["method"].to_list() == [f"'{text}" for text in FORMULAS] + TEXTS
    assert shown["lr"].to_list() == table["lr"].to_list()
    write_tables(table, table, tmp_path)
    assert "\n=1+1" not in (tmp_path / "runs.csv").read_text()
    assert "\n'=1+1" in (tmp_path / "runs.csv").read_text()
    assert pl.read_parquet(tmp_path / "runs.parquet").equals(table)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("name", ["runs.csv", "epochs.parquet", "report.html"])
@pytest.mark.parametrize("verb", ["run", "report"])
def test_a_stranger_s_file_is_not_replaced(study_file, command, tmp_path, verb, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    code, _, complaint = command(verb, study_file(), "--out", "out")
    said = f"out/{name} is none of a study's results: choose another --out\n"
    assert (code, complaint) == (2, said)
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_the_time_left_is_never_negative(monkeypatch, capsys):
    """After a resume a run may begin anew, and fewer epochs are trained than at first."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    show = plain_lines()
    for seconds, trained in ((0, 50), (20, 40), (40, 45), (60, 50), (80, 60)):
        now[0] = float(seconds)
        show(Progress(runs=10, finished=1, epochs=100, trained=trained))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("about ")[1] for line in lines] == ["220 s left", "200 s left", "120 s left"]


def test_a_link_s_error_names_the_remedy(tmp_path, small):
    store = Store(tmp_path / "out")
    (store.folder / "runs").mkdir(parents=True)
    store.folder_of(small.runs()[0]).symlink_to(tmp_path)
    with pytest.raises(StudyError, match="delete the link"):
        store.refuse_link(small.runs()[0])
