"""What names and texts of files can do on a terminal: nothing."""

from __future__ import annotations

import io

import pytest
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from caloforge.runtime.progress import Display
from caloforge.runtime.screen import Screen, inert

HOSTILE = "a\x1b[2Jb\x9b1mc\rd\x08e\u202ef"
SHOWN = "a\\x1b[2Jb\\x9b1mc\\rd\\x08e\\u202ef"


def test_control_characters_are_escapes() -> None:
    assert inert(HOSTILE) == SHOWN
    assert inert("θ\t± 1\n") == "θ\t± 1\n"


@pytest.mark.parametrize("colours", ["", "1"])
def test_whatever_is_printed_is_inert(
    colours: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", colours)
    table = Table(HOSTILE, title=HOSTILE, caption=Text(HOSTILE))
    table.add_row(HOSTILE)
    table.add_row(Text(HOSTILE))
    for thing in (table, HOSTILE, Text(HOSTILE), Markdown(HOSTILE)):
        Screen().print(thing)
    told = capsys.readouterr().out
    for control in ("\x1b[2J", "\x9b", "\r", "\x08", "\u202e"):
        assert control not in told
    assert told.count(SHOWN) >= 3
    assert told.count("\\x1b[2Jb") >= 6
    assert ("\x1b[" in told) == bool(colours)  # its own styles are no text


def test_bars_and_notes_are_inert(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for colours in ("", "1"):
        monkeypatch.setenv("FORCE_COLOR", colours)
        with Display() as show:
            show(HOSTILE, 1, 2, HOSTILE)
            show.note(HOSTILE)
        told = capsys.readouterr().err
        assert "\x1b[2J" not in told
        assert SHOWN in told


def test_what_the_encoding_lacks_is_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    screen = Screen()
    screen.file = io.TextIOWrapper(written, encoding="latin-1", newline="")
    table = Table("θ")
    table.add_row("1 ± 2 → 3")
    screen.print(table, "caf\udce9")
    screen.file.flush()
    told = written.getvalue().decode("latin-1")
    assert "1 ± 2 \\u2192 3" in told
    assert "\\u03b8" in told
    assert "caf\\udce9" in told
    assert len({len(line) for line in told.splitlines()[:-1]}) == 1  # columns are as wide as what is shown
