"""Published numbers are checked before anything is trained."""

import pytest

from hypergradient.study.errors import StudyError
from hypergradient.study.results.published import read_published
from hypergradient.study.run import execute

GOOD = "method,lr0,hypergrad_lr,epoch,train_loss,valid_loss\nsgd,1e-2,,1,0.5,0.6\n"

WRONG = {
    "ragged": (GOOD + "sgd,1,2,3,4,5,6,7,8\n", "the published numbers: "),
    "no-columns": ("a,b\n1,2\n", "have no column method, lr0, hypergrad_lr, iterations"),
    "no-numbers": (GOOD.replace("0.5", "half"), "train_loss is no number somewhere"),
    "no-time": ("method,lr0,hypergrad_lr,iterations\nsgd,1,,soon\n", "iterations is no number"),
    "empty": ("", "the published numbers: "),
    "binary": (b"\xff\xfe\x00\x01\n\x80,\x81", "the published numbers"),
}


def test_good_numbers_are_read(tmp_path):
    (tmp_path / "good.csv").write_text(GOOD)
    assert read_published(tmp_path / "good.csv")["train_loss"].to_list() == [0.5]
    (tmp_path / "times.csv").write_text("method,lr0,hypergrad_lr,iterations\nsgd,1e-1,,>33\n")
    assert read_published(tmp_path / "times.csv")["iterations"].to_list() == [">33"]


@pytest.mark.parametrize(("content", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_numbers_are_one_line(tmp_path, content, said):
    path = tmp_path / "wrong.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StudyError) as error:
        read_published(path)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{path}: ")
    assert said in line


def test_they_are_looked_at_before_the_training(tmp_path, study_file, command, monkeypatch):
    monkeypatch.setattr(execute, "execute", lambda *_, **__: pytest.fail("trains"))
    path = study_file()
    path.write_text(path.read_text().replace("seeds =", 'published = "ragged.csv"\nseeds =', 1))
    (tmp_path / "ragged.csv").write_text(WRONG["ragged"][0])
    code, _, complaint = command("run", path, "--out", "out")
    assert code == 2
    (line,) = complaint.splitlines()
    assert "ragged.csv: the published numbers" in line
