"""What an install brings: exactly our files below one name, pinned versions, permissive licences, true set-up lines."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from alignmerge import __version__

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("auditor", "merger", "policies", "reports", "suites")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
# A CUDA build of torch brings its vendor's libraries; which ones depends on the machine, so they are not pinned.
VENDOR = ("nvidia-", "cuda-", "triton")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the checkout without network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=True,
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site-packages folder that holds the unpacked wheel only."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def tracked() -> set[str]:
    """Tracked files of the package folders, as paths inside a wheel."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so there is no list of tracked files")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", "alignmerge", *PARTS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = [path for path in listed.stdout.split("\0") if path]
    return {path if path.startswith("alignmerge/") else f"alignmerge/{path}" for path in paths}


def test_the_wheel_holds_exactly_the_tracked_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == tracked()


def test_only_alignmerge_lands_in_site_packages(installed: Path) -> None:
    assert {path.name for path in installed.iterdir()} == {"alignmerge", f"alignmerge-{__version__}.dist-info"}


def run_python(code: str, folder: Path, cwd: Path) -> str:
    """What `code` prints with `folder` first on sys.path and `cwd` not on it."""
    result = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("layout", ["installed", "checkout"])
def test_every_module_is_found_below_alignmerge(request: pytest.FixtureRequest, layout: str, tmp_path: Path) -> None:
    """Found, not run: some modules need seconds for torch. The parts and their data are imported in both layouts."""
    folder = request.getfixturevalue("installed") if layout == "installed" else ROOT
    modules = sorted(
        path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in tracked()
        if path.endswith(".py")
    )
    code = (
        "from importlib.util import find_spec\nfrom importlib.resources import files\n"
        f"print([name for name in {modules!r} if find_spec(name) is None])\n"
        "import alignmerge\nprint(alignmerge.__file__)\n"
        "print(sorted(path.name for path in files('alignmerge.policies').iterdir() if path.name.endswith('.yaml')))"
    )
    missing, origin, policies = run_python(code, folder, tmp_path).splitlines()
    assert missing == "[]"
    assert Path(origin) == folder / "alignmerge" / "__init__.py"
    assert "'release.yaml'" in policies


def test_the_command_runs_from_an_installed_wheel(installed: Path, tmp_path: Path) -> None:
    code = "from alignmerge.cli import main\nmain(['--version'])"
    assert run_python(code, installed, tmp_path) == f"alignmerge, version {__version__}"


def test_constraints_are_exact_sorted_and_name_no_place() -> None:
    for pin in PINS:
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[0-9][0-9a-z.]*", pin), pin
        assert not pin.startswith(VENDOR)
    names = [pin.partition("==")[0] for pin in PINS]
    assert names == sorted(set(names))
    assert not re.search(r"https?:|--|sha256", (ROOT / "constraints.txt").read_text())


def requirements() -> list[Requirement]:
    texts = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    return [Requirement(text) for text in texts]


def closure(roots: list[Requirement]) -> Iterator[importlib.metadata.Distribution]:
    """Every installed distribution that `roots` need, directly or not, on this machine."""
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = list(roots)
    while queue:
        requirement = queue.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key in seen or key[0].startswith(VENDOR):
            continue
        seen.add(key)
        found = importlib.metadata.distribution(requirement.name)
        yield found
        for text in found.requires or ():
            needed = Requirement(text)
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                queue.append(needed)


def test_every_dependency_is_pinned_and_allowed_by_its_requirement() -> None:
    pins = dict(pin.split("==") for pin in PINS)
    for requirement in requirements():
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
    needed = {canonicalize_name(found.metadata["Name"]) for found in closure(requirements())}
    assert sorted(needed - pins.keys()) == []


def licence(found: importlib.metadata.Distribution) -> str:
    """What a distribution says about its licence: the expression, else the classifiers, else the first line."""
    meta = found.metadata
    classifiers = [row for row in meta.get_all("Classifier") or () if row.startswith("License ::")]
    return meta.get("License-Expression") or "; ".join(classifiers) or (meta.get("License") or "").split("\n")[0]


def test_no_dependency_is_copyleft_or_non_commercial() -> None:
    """An alternative (`A OR B`) counts as its permissive side; the file-level MPL 2.0 is allowed."""
    refused = re.compile(r"GPL|General Public|Affero|SSPL|NonCommercial|CC-BY-NC", re.IGNORECASE)
    for found in closure(requirements()):
        text = licence(found)
        assert text, f"{found.metadata['Name']} states no licence"
        assert any(not refused.search(side) for side in text.split(" OR ")), f"{found.metadata['Name']}: {text}"


def test_licence_and_version_are_stated_once_and_agree() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", ["run", "test"])
def test_the_readme_marks_each_set_up_command_once(name: str) -> None:
    marker = f"<!-- newcomer:{name} -->"
    readme = (ROOT / "README.md").read_text()
    assert readme.count(marker) == 1
    block = re.match(r"\n```\w*\n(.+)\n```\n", readme.partition(marker)[2])
    assert block, "one line in one fenced block right after the marker"
    assert block[1].startswith("python -m pip install -c constraints.txt ")


@pytest.mark.parametrize("name", [".ci/run", "scripts/check", "scripts/test"])
def test_scripts_can_be_started_and_parse(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / name)], check=True, timeout=60)
