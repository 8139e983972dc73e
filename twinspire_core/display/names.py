"""Names of items as people are shown them."""

LONGEST = 120


def short_name(name: str) -> str:
    """A name that leaves room for others: a catalogue may have whole pages where a title should be.

    Example:
      >>> short_name("Lamp")
      'Lamp'
      >>> len(short_name("x" * 20_000))
      120
    """
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
