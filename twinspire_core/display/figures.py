"""Figures as text: the same digits wherever a figure is shown."""

NONE = "–"
"""Stands where there is no figure."""


def number(value: float | None, digits: int = 3) -> str:
    """A measure.

    Example:
      >>> number(0.16349)
      '0.163'
      >>> number(None)
      '–'
    """
    if value is None:
        return NONE
    return f"{value:.{digits}f}"


def count(value: int | None) -> str:
    """A number of things.

    Example:
      >>> count(12345)
      '12,345'
    """
    if value is None:
        return NONE
    return f"{value:,}"


def share(value: float | None, digits: int = 1) -> str:
    """A share, in percent.

    Example:
      >>> share(0.1234)
      '12.3%'
    """
    if value is None:
        return NONE
    return f"{value:.{digits}%}"


def change(value: float | None) -> str:
    """A relative change, with its sign.

    Example:
      >>> change(-0.1234)
      '−12.3%'
    """
    if value is None:
        return NONE
    # The hyphen that Python writes is half as wide as a plus sign
    return f"{value:+.1%}".replace("-", "−")


def change_text(relative: float | None, low: float | None, high: float | None) -> str:
    """A relative change with its interval, if it has one.

    Example:
      >>> change_text(-0.12, -0.2, -0.04)
      '−12.0% (−20.0% to −4.0%)'
    """
    if low is None or high is None:
        return change(relative)
    return f"{change(relative)} ({change(low)} to {change(high)})"


def interval(ends: tuple[float, float], digits: int = 3) -> str:
    """The ends of an interval of a measure.

    Example:
      >>> interval((0.15, 0.1711))
      '0.150–0.171'
    """
    low, high = ends
    return f"{number(low, digits)}–{number(high, digits)}"
