"""A report is written after hours of training: an error in a part of it is told, not the end."""

import errno
from dataclasses import replace

import pytest
from figure_tables import Declared, study_tables

from hypergradient.study.report.gallery import GALLERY
from hypergradient.study.report.page import write_report
from hypergradient.study.results.statistics import Statistics


def fail(*_):
    raise ValueError("<no> such\nthing")


@pytest.mark.parametrize("part", ["possible", "draw", "page"])
def test_a_figure_that_cannot_be_made_is_named_and_the_others_are_there(
    tmp_path, monkeypatch, part
):
    broken = replace(GALLERY["sensitivity"], **{part: fail})
    monkeypatch.setitem(GALLERY, "sensitivity", broken)
    told = []
    page = write_report(Declared(), *study_tables(("mlp",)), tmp_path, tell=told.append)
    assert told == ["The figure sensitivity cannot be made: ValueError: <no> such thing"]
    text = page.read_text(encoding="utf-8")
    assert "The figure sensitivity cannot be made: ValueError: &lt;no&gt; such thing." in text
    assert 'id="sensitivity"' not in text
    for name in ("summary", "curves", "rate"):
        assert f'id="{name}"' in text


def test_statistics_that_fail_take_their_sections_only(tmp_path, monkeypatch):
    monkeypatch.setattr(Statistics, "summary", property(fail))
    told = []
    page = write_report(Declared(), *study_tables(("mlp",)), tmp_path, tell=told.append)
    assert [line.partition(" cannot")[0] for line in told] == ["The section summary", "The summary"]
    text = page.read_text(encoding="utf-8")
    for name in ("sensitivity", "curves", "rate"):
        assert f'id="{name}"' in text


def test_a_full_disk_is_no_fault_of_a_part(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(GALLERY, "curves", replace(GALLERY["curves"], draw=full))
    with pytest.raises(OSError, match="No space"):
        write_report(Declared(), *study_tables(("mlp",)), tmp_path)
