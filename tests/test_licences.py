"""The page of licences names all packages that caloforge asks for; those installed tell their licences."""

from __future__ import annotations

import importlib.util
import re
import sys
from email.message import Message
from importlib.metadata import Distribution
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "tools/licences.py"
pytestmark = pytest.mark.skipif(not TOOL.exists(), reason="not in a source tree")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["licences"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_none_is_missing(tool: Any) -> None:
    page = (ROOT / "docs/reference/licences.md").read_text(encoding="utf-8")
    told = {tool._plain(name) for name in re.findall(r"^\| ([\w.-]+) \|", page, re.MULTILINE)}
    wanted = {
        tool._plain(tool.NAME.match(text)["name"]) for texts in tool.direct().values() for text in texts
    }
    assert wanted - told == {"caloforge"}
    found = tool.licences()
    assert {"torch", "numpy", "h5py"} <= {item.package for item in found}
    assert [item.package for item in found if not item.text] == []
    assert "not told" not in page
    assert "| torch |" in tool.page(found)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"License-Expression": "MIT", "License": "other"}, "MIT"),
        ({"License": "BSD-3-Clause"}, "BSD-3-Clause"),
        ({"License": "Copyright\nthe text", "Classifier": "License :: OSI Approved :: MIT"}, "MIT"),
        ({"License": "UNKNOWN", "License-File": "COPYING"}, "see its COPYING"),
        ({"Classifier": "Topic :: Scientific/Engineering"}, ""),
    ],
)  # fmt: skip
def test_what_a_package_says_of_itself(fields: dict[str, str], text: str, tool: Any) -> None:
    class Made(Distribution):
        def read_text(self, filename: str) -> str | None:
            message = Message()
            for name, value in {"Name": "made", **fields}.items():
                message[name] = value.replace("\n", "\n        ")
            return message.as_string() if filename == "METADATA" else None

        def locate_file(self, path: Any) -> Any:
            raise NotImplementedError

    assert tool.licence_of(Made()) == text
