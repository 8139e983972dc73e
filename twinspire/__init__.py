"""A recommender's candidate generator, made fresh from every day of click logs."""

from twinspire_core.version import __version__

__all__ = ["__version__"]
