"""Templates of pages, and the macros that all of them may use. Apart from tables, as stages that show
tables need no Jinja.
"""

from functools import cache

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
