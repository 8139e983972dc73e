"""Templates and styles of pages, and what all of them share: macros.html.jinja and parts.css. Apart from
tables, as stages that show tables need no Jinja.
"""

from functools import cache
from importlib.resources import files

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


@cache
def templates(package: str, folder: str = "") -> Environment:
    """The templates of a package's folder, which may import from macros.html.jinja."""
    pages = PackageLoader(package, folder)
    # Names of items and users, reasons, and whatever stands in an address may hold HTML: all is
    # escaped except what a template marks as safe.
    return Environment(
        loader=ChoiceLoader([pages, PackageLoader("twinspire_core.display", "")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def style(package: str) -> str:
    """The style sheet of a package's pages: what all pages share, then its own page.css."""
    sheets = files("twinspire_core.display") / "parts.css", files(package) / "page.css"
    return "".join(sheet.read_text() for sheet in sheets)
