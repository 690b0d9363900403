"""Bars: where a terminal shows them, and nothing elsewhere."""

import pytest

from caloforge.runtime.progress import progress_bar


def count(**options: object) -> None:
    with progress_bar("counting", 10, **options) as show:
        show(4)
        show(advance=3, what="counted")


def test_a_terminal_shows_what_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    count()
    told = capsys.readouterr()
    assert "counted" in told.err
    assert "7/10" in told.err
    assert told.out == ""
    count(wanted=False)
    assert capsys.readouterr().err == ""


def test_elsewhere_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    count()
    assert capsys.readouterr() == ("", "")
