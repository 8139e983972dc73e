"""The feature job once more, one row at a time in plain Python, from what ARCHITECTURE and the
pipeline file say.

It shares no code with beam_jobs. Every function returns rows as dicts of the columns that the job
writes.
"""

import hashlib
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import numpy as np

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ONE = timedelta(days=1)
HISTORY_TYPES, POSITIVES = ("buy", "view"), ("buy", "gift")
HISTORY_DAYS, COUNT_DAYS, LATELY_DAYS, DEFAULT_DAYS, LENGTH = 4, 5, 1, 7, 3


def float32(x):
    return None if x is None or x != x else float(np.float32(x))


class Slow:
    """A world, as the job should see it."""

    def __init__(self, world, day, known_days=HISTORY_DAYS):
        self.world, self.day, self.zone = world, day, world.zone
        self.known_days = known_days
        self.holdout, self.most = world.pipeline.evaluation.holdout, world.most
        seen, self.log, self.doubles = set(), [], Counter()
        for d in sorted(world.events):
            for row in world.events[d]:
                key = (row["who"], row["what"], row["at"], row["kind"])
                if d > day or row["kind"] not in ("buy", "gift", "view"):
                    continue
                if key in seen:
                    self.doubles[d] += 1
                    continue
                seen.add(key)
                t = EPOCH + timedelta(milliseconds=row["at"])
                event = {"user": str(row["who"]), "item": str(row["what"]), "t": t, "d": d}
                self.log.append(event | row)
        self.log.sort(key=lambda e: (e["t"], e["item"]))

    def start(self, day):
        return datetime(day.year, day.month, day.day, tzinfo=self.zone).astimezone(UTC)

    def past(self, user, day, before, days=HISTORY_DAYS):
        """History events of a user in the window of `day`, before some instant."""
        first = self.start(day - days * ONE)
        mine = (e for e in self.log if e["user"] == user and e["kind"] in HISTORY_TYPES)
        return [e for e in mine if first <= e["t"] < before]

    def positives(self, day):
        return [e for e in self.log if e["d"] == day and e["kind"] in POSITIVES]

    def lot(self, user, day):
        digest = hashlib.blake2b(f"{day}|{user}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little")

    def held_out(self, day):
        lots = sorted((self.lot(u, day), u) for u in {e["user"] for e in self.positives(day)})
        below = [user for lot, user in lots if lot < self.holdout * 2**64]
        return set(below[: self.most])

    def snapshot(self, table, key, day):
        """Rows by key of the newest snapshot at or before `day`; of several the last."""
        days = [d for d in getattr(self.world, table) if d <= day]
        return {str(row[key]): row for row in getattr(self.world, table)[max(days)]} if days else {}

    def query(self, event, day, history):
        user = self.snapshot("users", "id", day - ONE).get(event["user"], {})
        labels = [x.strip() for x in (event["labels"] or "").split("|")]
        return {
            "me": event["user"],
            "last": [e["item"] for e in history[-LENGTH:]],
            "now_hour": event["t"].astimezone(self.zone).hour,
            "now_weekday": day.weekday(),
            "device": event["device"] or None,
            "basket": float32(event["total"]),
            "labels": [x for x in labels if x],
            "city": user.get("city"),
            "height": float32(user.get("height")),
        }

    def count(self, item, day, n):
        mine = [e for e in self.log if e["item"] == item and e["kind"] in POSITIVES]
        return sum(day - n * ONE <= e["d"] < day for e in mine)

    def item(self, item, day, row):
        cut = self.start(day)
        window = [e["t"] for e in self.log if e["item"] == item and e["kind"] in POSITIVES]
        window = [t for t in window if self.start(day - COUNT_DAYS * ONE) <= t < cut]
        row, listed = row or {}, (row or {}).get("listed")
        return {
            "product": item,
            "brand": row.get("brand"),
            "words": row.get("title"),
            "tags": [t for t in row.get("tags") or [] if t],
            "look": row.get("look") or [],
            "price": float32(row.get("price")),
            "sold_1": float(self.count(item, day, 1)),
            "sold_4": float(self.count(item, day, 4)),
            "seen_for": float32((cut - min(window)) / ONE) if window else None,
            "listed_for": float32(max(0.0, (cut - self.start(listed)) / ONE)) if listed else None,
        }

    def examples(self, day):
        held, items = self.held_out(day), self.snapshot("items", "sku", day)
        return [
            {
                "_user": e["user"],
                "_item": e["item"],
                "_time": e["t"],
                "_reward": min(2.0, max(0.5, e["weight"])) * (2.5 if e["kind"] == "gift" else 1),
                "_label": float32(e["liked"]),
                "_holdout": e["user"] in held,
                **self.query(e, day, self.past(e["user"], day, e["t"])),
                **self.item(e["item"], day, items.get(e["item"])),
            }
            for e in self.positives(day)
        ]

    def known(self, user, day):
        """What is known of a user at the start of a day; None if nothing."""
        cut, first = self.start(day), self.start(day - self.known_days * ONE)
        events = [e for e in self.log if e["user"] == user and first <= e["t"] < cut]
        if not events:
            return None
        past = self.past(user, day, cut, self.known_days)
        times, latest = Counter(e["item"] for e in past), {e["item"]: e["t"] for e in past}
        ranked = sorted(times, key=lambda i: (-times[i], -(latest[i] - EPOCH), i))
        return {
            "_last_time": events[-1]["t"],
            "_past": ranked,
            "_past_events": len(past),
            **self.query(events[-1], day, self.past(user, day, cut)),
        }

    def evaluation(self):
        rows = []
        for back in range(7):
            day = self.day - back * ONE
            held = self.held_out(day)
            for user in {e["user"] for e in self.positives(day)}:
                if back and user not in held:
                    continue
                mine = [e for e in self.positives(day) if e["user"] == user]
                known = self.known(user, day)
                if known is None:  # a newcomer, as they are when they come
                    known = {"_past": [], "_past_events": 0, **self.query(mine[0], day, [])}
                known.pop("_last_time", None)
                truth = list(dict.fromkeys(e["item"] for e in mine))
                row = {"_user": user, "_day": day, "_holdout": user in held, "_truth": truth}
                rows.append(row | known)
        return rows

    def users(self):
        known = {user: self.known(user, self.day + ONE) for user in {e["user"] for e in self.log}}
        return [{"_user": user, **row} for user, row in known.items() if row]

    def corpus(self, moment: date, *, unlisted: bool, recent_days: int | None):
        listed, rows = self.snapshot("items", "sku", self.day), []
        for sku in {*listed, *(e["item"] for e in self.log)}:
            row = listed.get(sku)
            is_recent = self.count(sku, moment, recent_days or DEFAULT_DAYS) > 0
            passes = row and row["on_sale"] and row["aisle"] in (1, 2)
            passes = passes and (is_recent or recent_days is None)
            if not (passes or (unlisted and not row and is_recent)):
                continue
            rows.append(
                {
                    "_item": sku,
                    "_name": row and row["title"],
                    "_popular": self.count(sku, moment, COUNT_DAYS),
                    "_lately": self.count(sku, moment, LATELY_DAYS),
                    "_display_title": row and row["title"],
                    "_display_aisle": row and str(row["aisle"]),
                    "_attribute_aisle": row and row["aisle"],
                    "_attribute_tags": (row or {}).get("tags") or [],
                    **self.item(sku, moment, row),
                }
            )
        return rows
