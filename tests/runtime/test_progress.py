"""Bars where a terminal shows them; elsewhere nothing, or lines now and then."""

import pytest

from caloforge.runtime.progress import Display


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def count(unit: str = "", enabled: bool = True) -> None:
    with Display(unit, enabled=enabled) as show:
        show("counting", 2, 10)
        show("counting", 4, 10)
        show("counting", 7, 10, "loss 3")


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_what_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    count()
    told = capsys.readouterr()
    assert "counting" in told.err
    assert "7/10" in told.err
    assert "loss 3" in told.err
    assert told.out == ""
    count(enabled=False)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("no_terminal")
def test_elsewhere_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    count()
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("terminal")
def test_fractions_bytes_and_speed(capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as show:
        show("judging", 0.25)
        show("drawing [1]", 3, None)
    told = capsys.readouterr().err
    assert "25%" in told
    assert "drawing [1]" in told  # is no markup
    count("showers")
    assert "showers/s" in capsys.readouterr().err
    with Display("B") as show:
        show("file", 1_500_000, 3_000_000)
    assert "1.5 MB/3.0 MB" in capsys.readouterr().err


@pytest.mark.usefixtures("terminal")
def test_notes_stay_and_lines_are_for_other_places(capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as show:
        show.note("all is saved [in a]")
        show.line("epoch 1")
    told = capsys.readouterr().err
    assert "all is saved [in a]" in told
    assert "epoch" not in told


@pytest.mark.usefixtures("no_terminal")
def test_few_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as show:
        for epoch in range(5):
            show.line(f"epoch {epoch}", last=epoch == 4)
        show.note("saved")
    assert capsys.readouterr().err.splitlines() == ["epoch 0", "epoch 4", "saved"]
    with Display(enabled=False) as show:
        show.line("epoch")
        show.note("saved")
    assert capsys.readouterr().err == ""
