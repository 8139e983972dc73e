"""Templates of pages, and what is common to all of them."""

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


@cache
def templates(package: str, folder: str = "") -> Environment:
    """The templates of a package, which may import from macros.html.jinja.

    Args:
      package: its name.
      folder: where in it the templates lie.
    """
    own = PackageLoader(package, folder)
    common = PackageLoader("twinspire_core.display", "")
    # Names of items and users, reasons, and whatever stands in an address may hold HTML: all is
    # escaped but what a template calls safe.
    return Environment(
        loader=ChoiceLoader([own, common]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
