"""VSTAN of the quality benchmark: by hand, and against the same written query by query."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from benchmarks.quality import session_peer
from benchmarks.quality.session_peer import DAY, HOUR, known_sessions, sessions_of

DECAYS = ("item_decay", "session_decay", "match_decay", "place_decay")
PLAIN = {"pause": 0.5, "last": 1, "sample": 500, "nearest": 500, "rarity": 0}
PLAIN |= dict.fromkeys(DECAYS, 0)
MINUTE = HOUR // 60


def log_of(*events: tuple[int, int, int], items: int) -> dict[str, np.ndarray]:
    user, item, at = (np.array(column) for column in zip(*events, strict=True))
    return {"user": user, "item": item, "time": at, "place": np.arange(items)}


def asked_of(*histories: list[tuple[int, int]], moment: int) -> dict[str, np.ndarray]:
    lengths = [len(history) for history in histories]
    every = [event for history in histories for event in history]
    return {
        "start": np.cumsum([0, *lengths]),
        "item": np.array([item for item, _ in every]),
        "time": np.array([at for _, at in every]),
        "moment": np.full(len(histories), moment),
        "asker": np.full(len(histories), -1),
    }


def ranked(log: dict, asked: dict, settings: dict) -> list[list[int]]:
    known = known_sessions(log, settings)
    neighbours = session_peer.Neighbours(known, len(log["place"]), settings)
    actual = session_peer.rank(neighbours, log, asked, settings)
    return [[int(i) for i in row if i >= 0] for row in actual]


def test_what_is_bought_together_stands_in_one_place() -> None:
    owner, item = np.zeros(5, int), np.array([7, 8, 9, 7, 6])
    moment = np.array([0, 0, HOUR, 2 * HOUR, 30 * HOUR])
    sessions = sessions_of(owner, item, moment, pause=12)
    assert sessions.start.tolist() == [0, 3, 4]
    # 7 counts where it was bought last.
    places = dict(zip(sessions.item[:3].tolist(), sessions.place[:3].tolist(), strict=True))
    assert places == {7: 0, 9: 1, 8: 2}
    assert sessions.time[sessions.start[:-1]].tolist() == [2 * HOUR, 30 * HOUR]
    both = sessions_of(owner, item, moment, pause=12, last=2)
    assert both.start.tolist() == [0, 4] and both.item[0] == 6


def test_of_the_day_only_what_came_before_the_moment_is_known() -> None:
    yesterday = [(0, 0, 0), (0, 1, MINUTE)]
    today = [
        (1, 0, DAY),
        (1, 2, DAY + MINUTE),
        (1, 3, DAY + 9 * MINUTE),
        (7, 0, DAY + MINUTE),  # the asker's own session, which the event asked about ends
        (7, 4, DAY + 2 * MINUTE),
        (7, 5, DAY + 5 * MINUTE),
    ]
    history = [(0, DAY + MINUTE), (4, DAY + 2 * MINUTE)]
    asked = asked_of(history, history, moment=DAY + 5 * MINUTE)
    asked["asker"] = np.array([7, 8])
    # 3 is read later. Of the own session nothing; another user would know 4 of it, but not 5.
    both = log_of(*yesterday, *today, items=6)
    assert [sorted(row) for row in ranked(both, asked, PLAIN)] == [[0, 1, 2], [0, 1, 2, 4]]
    asked["moment"][:] = DAY
    assert [sorted(row) for row in ranked(both, asked, PLAIN)] == [[0, 1], [0, 1]]


def slow_sessions(events: list[tuple[int, int]], pause: float) -> list[list[tuple[int, int]]]:
    """A user's events (item, moment) in the order of time, parted."""
    parts = [[events[0]]]
    for before, event in pairwise(events):
        if event[1] - before[1] > pause * HOUR:
            parts.append([])
        parts[-1].append(event)
    return parts


def slow_places(session: list[tuple[int, int]]) -> dict[int, int]:
    newest = dict(sorted(session, key=lambda event: event[1]))
    moments = sorted(set(newest.values()), reverse=True)
    return {item: moments.index(at) for item, at in newest.items()}


def slow(log: dict, history: list, moment: int, how: dict) -> dict[int, float]:
    """Scores of one query, as the module's docstring says."""

    def fading(distance: float, scale: float) -> float:
        return math.exp(-distance / scale) if scale else 1.0

    sessions = []
    for user in range(int(log["user"].max()) + 1):
        mine = np.flatnonzero(log["user"] == user)
        mine = mine[np.argsort(log["time"][mine], kind="stable")]
        events = [(int(log["item"][n]), int(log["time"][n])) for n in mine]
        for part in slow_sessions(events, how["pause"]) if events else []:
            if len(slow_places(part)) > 1:
                sessions.append((max(at for _, at in part), slow_places(part), dict(part)))
    newest = slow_sessions(history, how["pause"])[-how["last"] :]
    current = slow_places([event for session in newest for event in session])
    newest_of = set()
    for item in current:
        holders = [n for n, (_, held, _) in enumerate(sessions) if item in held]
        newest_of |= set(sorted(holders, key=lambda n: -sessions[n][2][item])[: how["sample"]])
    sharing = [sessions[n][:2] for n in newest_of]
    sharing = sorted(sharing, key=lambda session: -session[0])[: how["sample"]]
    near = []
    for end, held in sharing:
        shared = sorted(set(held) & set(current), key=lambda item: current[item])
        similarity = sum(fading(current[item], how["item_decay"]) for item in shared)
        similarity /= math.sqrt(len(held) * len(current))
        similarity *= fading((moment - end) / DAY, how["session_decay"])
        similarity *= fading(current[shared[0]], how["match_decay"])
        near.append((similarity, held, held[shared[0]]))
    scores: dict[int, float] = {}
    for similarity, held, match in sorted(near, key=lambda n: -n[0])[: how["nearest"]]:
        for item, place in held.items():
            holders = sum(item in other for _, other, _ in sessions)
            rare = 1 + how["rarity"] * math.log(len(sessions) / holders)
            value = similarity * fading(abs(place - match), how["place_decay"]) * rare
            scores[item] = scores.get(item, 0) + value
    return scores


@pytest.mark.parametrize("last", [1, 3])
def test_many_queries_at_once_are_as_one_by_one(last: int) -> None:
    rng = np.random.default_rng(0)
    # No two events at one moment: which of two equals is the newest is nobody's business.
    times = rng.permutation(np.arange(400)) * 17 * MINUTE + rng.integers(0, 9, 400)
    events = zip(rng.integers(0, 12, 400), rng.integers(0, 30, 400), times, strict=True)
    log = log_of(*events, items=30)
    how = {"pause": 2.0, "last": last, "sample": 12, "nearest": 8, "rarity": 0.5}
    how |= dict(zip(DECAYS, (1.5, 2.0, 0.7, 1.2), strict=True))
    hours, drawn = np.array([0, 1, 5, 6, 12]) * HOUR, rng.integers(0, 30, (40, 5))
    histories = [[*zip(items.tolist(), hours.tolist(), strict=True)] for items in drawn]
    asked = asked_of(*histories, moment=5 * DAY)
    known = known_sessions(log, how)
    neighbours = session_peer.Neighbours(known, 30, how)
    query = np.repeat(np.arange(40), 5)
    current = sessions_of(query, asked["item"], asked["time"], how["pause"], last)
    found = neighbours.scores(current, asked["moment"], asked["asker"]).toarray()
    for row, history in zip(found, histories, strict=True):
        wanted = slow(log, history, 5 * DAY, how)
        assert row == pytest.approx([wanted.get(item, 0.0) for item in range(30)])


def test_the_best_of_a_row_are_those_of_sorting_all_of_it():
    rng = np.random.default_rng(3)
    items = session_peer.LENGTH + 300
    place = np.where(rng.random(items) < 0.9, rng.permutation(items), -1)
    # Few different scores: many are equal where a list ends; and a short row.
    dense = rng.integers(0, 4, (3, items)).astype(float)
    dense[2, 5:] = 0
    actual = session_peer.top(csr_matrix(dense), place)
    for row, scores in enumerate(dense):
        order = sorted(range(items), key=lambda item: (-scores[item], item))
        wanted = [place[item] for item in order if scores[item] > 0 and place[item] >= 0]
        wanted = wanted[: session_peer.LENGTH]
        assert actual[row].tolist() == wanted + [-1] * (session_peer.LENGTH - len(wanted))
