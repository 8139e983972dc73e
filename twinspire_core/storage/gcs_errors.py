"""Errors of Google's library for its object store, as ours: TryAgain when asking again may help,
UsageError when it will not.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

from twinspire_core.errors import TryAgain, UsageError

P = ParamSpec("P")
R = TypeVar("R")


def translated(call: Callable[P, R]) -> Callable[P, R]:
    """Turns the library's errors into ours, naming the object."""

    @wraps(call)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        from google.api_core.exceptions import Forbidden, NotFound, Unauthorized
        from google.auth.exceptions import DefaultCredentialsError

        try:
            return call(*args, **kwargs)
        except NotFound as e:
            raise UsageError(
                f"A bucket must exist before it is used; there is none for {args[0]}: {e}"
            ) from e
        except (Forbidden, Unauthorized, DefaultCredentialsError) as e:
            raise UsageError(
                f"{args[0]} has to be open to this account, and is not: {e}. Set"
                " GOOGLE_APPLICATION_CREDENTIALS, or ask for read and write access to the bucket."
            ) from e
        except temporary() as e:
            raise TryAgain(
                f"Google Cloud Storage has to answer, and did not for {args[0]}: {e}. Try again."
            ) from e

    return inner


@cache
def temporary() -> tuple[type[Exception], ...]:
    """Errors that may pass. The library raises them after it has tried again for two minutes."""
    from google.api_core.exceptions import RetryError, ServerError, TooManyRequests
    from google.auth.exceptions import TransportError
    from requests import RequestException

    return (
        RetryError,
        ServerError,
        TooManyRequests,
        TransportError,
        RequestException,
        ConnectionError,
    )
