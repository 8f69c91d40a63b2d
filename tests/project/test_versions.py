"""The bounds of pyproject.toml: each names a lowest version, and an environment of lowest versions holds exactly these."""

from __future__ import annotations

import os
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.project.lowest_versions import lowest_version, lowest_versions, read_extras

EXTRAS = read_extras()
RUNTIME_EXTRAS = ("", "cpu", "cuda", "tensorrt", "rtx", "sign", "heif", "serve", "ray")
LINES = sorted({line for lines in EXTRAS.values() for line in lines if not line.startswith("alterbute[")})
# The variable is set by `make test-lowest` and `make test-lowest-runtime`: the extras that were installed.
INSTALLED = os.environ.get("ALTERBUTE_VERSIONS", "")


@pytest.mark.parametrize("line", LINES)
def test_every_requirement_states_its_lowest_version_in_full(line: str) -> None:
    stated = lowest_version(Requirement(line))
    assert len(stated.release) >= 3, (
        "a short version, such as 1.24, is not that of a release that pip can install with =="
    )


def test_a_package_has_one_bound_in_all_extras_of_the_runtime() -> None:
    bounds: dict[str, set[str]] = {}
    for extra in RUNTIME_EXTRAS:
        for requirement in map(Requirement, EXTRAS[extra]):
            bounds.setdefault(requirement.name, set()).add(str(requirement.specifier))
    assert {name for name, stated in bounds.items() if len(stated) > 1} == set()


@pytest.mark.parametrize("line", ["numpy", "numpy<3", "numpy>=2,>=3", "numpy>=2,!=2"])
def test_a_requirement_without_one_lowest_version_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match="has no lowest version"):
        lowest_version(Requirement(line))


def test_own_extras_are_followed_and_the_higher_bound_counts() -> None:
    extras = {"": ["a>=1"], "x": ["B_b>=2", "a>=3"], "y": ["alterbute[x]", 'c>=1; python_version < "3"']}
    assert lowest_versions(["y"], extras) == {"a": Version("3"), "b-b": Version("2")}


@pytest.mark.parametrize(
    ("name", "above"),
    [
        ("h11", "0.16.0"),
        ("starlette", "0.49.1"),
        ("cryptography", "50.0.0"),
        ("pillow", "12.3.0"),
        ("onnxruntime", "1.24.3"),
    ],
)
def test_bounds_exclude_releases_with_known_holes(name: str, above: str) -> None:
    assert lowest_versions(["cpu", "serve", "sign"])[name] >= Version(above)


def test_an_application_with_an_older_pillow_can_install_this_beside_it() -> None:
    assert lowest_versions([])["pillow"] < Version("13")


@pytest.mark.skipif(not INSTALLED, reason="for the environments of `make test-lowest` and `make test-lowest-runtime`")
def test_the_lowest_versions_are_installed_and_no_others() -> None:
    expected = lowest_versions(INSTALLED.split(","))
    assert {name: Version(Version(version(name)).public) for name in expected} == expected
