"""Prints pip constraints that pin every dependency to the oldest version that pyproject.toml allows.

python tools/minimum_versions.py > constraints.txt
pip install --constraint constraints.txt --editable '.[test]'
"""

import itertools
import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[^\]]*\])?\s*>=\s*(?P<version>[\w.]+)")


def minimum_versions(pyproject: Path = PYPROJECT) -> dict[str, str]:
    """Oldest version of each dependency by name, those of all extras included.

    Raises:
        ValueError: a requirement says no oldest version.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    versions = {}
    for requirement in itertools.chain.from_iterable(groups):
        if requirement.startswith(project["name"] + "["):
            continue  # an extra that is made of others
        found = REQUIREMENT.match(requirement)
        if found is None:
            raise ValueError(f"{pyproject}: {requirement!r} says no oldest version; write name>=version")
        versions[found["name"]] = found["version"]
    return versions


if __name__ == "__main__":
    for name, version in minimum_versions().items():
        print(f"{name}=={version}")
