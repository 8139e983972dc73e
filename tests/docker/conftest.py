"""The circle of twelve items, which a real server answers from."""

from tests.serving.conftest import towers

__all__ = ["towers"]
