"""Versions besides the live one: loaded when somebody looks at them, and a few of them kept."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Thread

from serving.version import Version

log = logging.getLogger("twinspire.serve")


@dataclass(slots=True)
class _Place:
    """A version on the shelf: it is being loaded until it, or what went wrong, is there."""

    version: Version | None = None
    failure: Exception | None = None


class Shelf:
    """Keeps the versions that were asked for last.

    They are loaded one after the other by threads of their own; the live version is none of them, and answers
    meanwhile. A version that was dropped while somebody shows it goes when that is done.

    Args:
      opened: opens a version by its id.
      warm: asks it what users will ask; raises if it does not answer.
      most: how many are kept: memory holds so many besides the live one.
    """

    def __init__(self, opened: Callable[[str], Version], warm: Callable[[Version], None], most: int = 2) -> None:
        self._open, self._warm, self._most = opened, warm, most
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._lock, self._loading = Lock(), Lock()

    def get(self, version: str) -> Version | None:
        """The version; None while it is being loaded, which begins now if it has not.

        Raises:
          Exception: why it could not be loaded. The next call tries again.
        """
        with self._lock:
            place = self._places.pop(version, None)
            if place is not None and place.failure:
                raise place.failure
            if place is None:
                place = _Place()
                Thread(target=self._load, args=(version, place), name=f"twinspire-{version}", daemon=True).start()
            self._places[version] = place
            while len(self._places) > self._most:
                self._places.popitem(last=False)
            return place.version

    def _load(self, version: str, place: _Place) -> None:
        with self._loading:
            with self._lock:
                if self._places.get(version) is not place:  # others were asked for since
                    return
            try:
                opened = self._open(version)
                self._warm(opened)
            except Exception as e:
                log.warning("%s cannot be shown: %s: %s", version, type(e).__name__, e)
                place.failure = e
            else:
                place.version = opened
