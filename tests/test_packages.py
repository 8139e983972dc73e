from pathlib import Path
from runpy import run_path
from unittest.mock import patch

ROOT = Path(__file__).parents[1]


def test_every_file_of_the_packages_is_installed():
    with patch("setuptools.setup") as setup:
        said = run_path(str(ROOT / "setup.py"))
    patterns = setup.call_args.kwargs["package_data"]
    homes = {package: ROOT / package.replace(".", "/") for package in patterns}
    globs = ((home, pattern) for package, home in homes.items() for pattern in patterns[package])
    installed = {path for home, pattern in globs for path in home.glob(pattern)}
    there = {
        path
        for package in said["PACKAGES"]
        for path in (ROOT / package).rglob("*")
        # Python and numba keep there what they compiled.
        if path.is_file() and path.suffix != ".py" and path.parent.name != "__pycache__"
    }
    assert there == installed
