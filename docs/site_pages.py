"""The site's pages that no file of `docs/` holds: what stands at the root of the repository, the list
of decisions, and the Python reference. MkDocs calls the two functions (`hooks` in mkdocs.yml).

The Python reference has a page for each package of code. On it stand the docstrings of the
package's modules; mkdocstrings reads them without importing anything.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PACKAGES = ("twinspire_core", "beam_jobs", "model", "index_builder", "serving", "twinspire")
PACKAGE_OPTIONS = "    options: {members: false, heading_level: 1}"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the reference and the decisions to the navigation, which mkdocs.yml begins."""
    packages: list[dict[str, Any]] = [
        {top: [{package: reference_path(package)} for package in packages_of(top)]}
        for top in PACKAGES
    ]
    decisions = [f"decisions/{page.name}" for page in decision_pages()]
    for section in config.nav or []:
        if "Python" in section:
            section["Python"] = packages
        if "Decisions" in section:
            template = {"Template": "decisions/0000-template.md"}
            section["Decisions"] = ["decisions/index.md", *decisions, template]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages themselves."""
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text().replace("](docs/", "](")
        files.append(File.generated(config, name.lower(), content=text))
    files.append(File.generated(config, "decisions/index.md", content=decisions_page()))
    for top in PACKAGES:
        for package in packages_of(top):
            page = File.generated(config, reference_path(package), content=reference_page(package))
            files.append(page)
    return files


def reference_path(package: str) -> str:
    """The address of a package's page, within the site."""
    return f"python/{package}.md"


def packages_of(top: str) -> list[str]:
    """A package and all that are in it, by their dotted names."""
    folders = [init.parent.relative_to(ROOT) for init in sorted((ROOT / top).rglob("__init__.py"))]
    return sorted(".".join(folder.parts) for folder in folders)


def reference_page(package: str) -> str:
    """Directives for mkdocstrings: the package's docstring, then each of its modules."""
    return "\n".join([f"::: {package}", PACKAGE_OPTIONS, *_modules(package)])


def _modules(package: str) -> Iterator[str]:
    for file in sorted((ROOT / package.replace(".", "/")).glob("*.py")):
        if not file.stem.startswith("_"):
            yield f"\n::: {package}.{file.stem}"


def decision_pages() -> list[Path]:
    """The decisions' files, the template left out."""
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    return [page for page in pages if page.name != "0000-template.md"]


def decisions_page() -> str:
    """A table of all decisions: what was decided, when, and whether it still holds."""
    lines = [
        "# Decisions",
        "",
        "One page for each choice that was hard: the problem, what we do, what was rejected and why.",
        "",
        "| decision | date | status |",
        "|---|---|---|",
    ]
    for page in decision_pages():
        text = page.read_text()
        heading = re.search(r"^# (.+)$", text, re.M)
        dated = re.search(r"^Date: (\S+)\. Status: ((?:.+\n)+)", text, re.M)
        if heading is None or dated is None:
            raise ValueError(f"{page.name} needs a heading and a line `Date: …. Status: …`")
        status = " ".join(dated[2].split()).rstrip(".")
        lines.append(f"| [{heading[1]}]({page.name}) | {dated[1]} | {status} |")
    return "\n".join(lines) + "\n"
