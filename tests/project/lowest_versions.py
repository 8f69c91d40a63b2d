"""The lowest versions that pyproject.toml allows, as constraints for pip; a program that needs only `packaging`.

python tests/project/lowest_versions.py cpu,serve       # `numpy==1.26.0` and so on, for the package with these extras
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PYPROJECT: Final = Path(__file__).parents[2] / "pyproject.toml"


def read_extras(path: Path = PYPROJECT) -> dict[str, list[str]]:
    """Requirements by extra; under the empty name, those of the package without extras."""
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


def walk_requirements(extras: Mapping[str, list[str]], names: Iterable[str], package: str) -> Iterator[Requirement]:
    """Requirements of the package and of some extras that hold on this machine; extras of its own are followed.

    Args:
        extras: See `read_extras`.
        names: The extras; those of the package itself come first and always.
        package: The package's own name.
    """
    for name in ("", *names):
        for line in extras[name]:
            requirement = Requirement(line)
            if requirement.marker is not None and not requirement.marker.evaluate():
                continue
            if requirement.name == package:
                yield from walk_requirements(extras, sorted(requirement.extras), package)
            else:
                yield requirement


def lowest_version(requirement: Requirement) -> Version:
    """The version that a requirement's `==x` or `>=x` names.

    Raises:
        ValueError: it names none, or one that it leaves out itself.
    """
    stated = [Version(part.version) for part in requirement.specifier if part.operator in ("==", ">=")]
    if len(stated) != 1 or not requirement.specifier.contains(stated[0], prereleases=True):
        raise ValueError(
            f"{requirement} has no lowest version; expected one `>=x` or `==x`; write the lowest that passes the tests"
        )
    return stated[0]


def lowest_versions(names: Iterable[str], extras: Mapping[str, list[str]] | None = None) -> dict[str, Version]:
    """The lowest version of each package that an installation with these extras allows, by canonical name."""
    lowest: dict[str, Version] = {}
    for requirement in walk_requirements(read_extras() if extras is None else extras, names, "alterbute"):
        name = canonicalize_name(requirement.name)
        lowest[name] = max(lowest_version(requirement), lowest.get(name, Version("0")))
    return lowest


if __name__ == "__main__":
    for package, version in sorted(lowest_versions(sys.argv[1].split(",")).items()):
        print(f"{package}=={version}")
