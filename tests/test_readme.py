"""The README's ten lines run as they stand, on fewer showers, fewer layers and a smaller network."""

import re
from pathlib import Path

import pytest
from thin import write_thin

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.skipif(not README.exists(), reason="the README is not installed with the package")
def test_the_ten_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    match = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert match is not None
    code = match[1].strip()
    small = '{"training.epochs": 1, "settings.blocks": 2, "settings.hidden": 8}'
    smaller = code.replace("n=1500", "n=80").replace('out="model"', f'out="model", overrides={small}')
    smaller = smaller.replace('"par04-siw"', '"thin.toml"')
    assert smaller.count("n=80") == smaller.count("thin.toml") == 1
    assert small in smaller
    monkeypatch.chdir(tmp_path)
    write_thin(Path("thin.toml"))
    exec(compile(smaller, str(README), "exec"), {})
    assert (tmp_path / "report" / "report.html").exists()
    assert "separation power" in capsys.readouterr().out
