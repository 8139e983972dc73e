"""Items and users that came after training, in a made-up world of six tastes: content and context
speak for them.
"""

from copy import copy
from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from model.data.training_rows import Rows
from model.losses.sampling_probability import StreamingFrequency
from model.towers import architecture as towers
from model.towers.architecture import design
from model.towers.two_tower import TwoTower
from model.training.loop import run_training
from model.training.untrained_rows import zero_untrained_rows

TASTES, USERS, ITEMS, NEW, EVENTS, SHARED = 6, 240, 120, 48, 24, 4
FEATURES = {
    "user": {"kind": "id", "tower": "query"},
    "recent": {"kind": "history", "length": 8},
    "city": {"kind": "category", "tower": "query"},
    "country": {"kind": "category", "tower": "query"},
    "device": {"kind": "category", "tower": "query"},
    "language": {"kind": "category", "tower": "query"},
    "item": {"kind": "id", "tower": "item"},
    "genre": {"kind": "category", "tower": "item"},
    "title": {"kind": "text", "tower": "item"},
}
CONTENT, CONTEXT = ("genre", "title"), ("city",)
ALIKE = ("country", "device", "language")
"""Of nearly all users the same."""


class World:
    """Users click nine times in ten what is to their taste; who lives where says much of it, as do
    genres and words.
    """

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.taste_of_item = np.arange(ITEMS + NEW) % TASTES
        self.taste_of_user = np.arange(USERS + NEW) % TASTES
        self.genre = self._hint(self.taste_of_item, 0.9) + 1
        self.city = self._hint(self.taste_of_user, 0.9) + 1
        users = np.arange(USERS + NEW)
        self.alike = {name: np.where((users + n) % 20, 1, 2) for n, name in enumerate(ALIKE)}
        words = self._hint(np.repeat(self.taste_of_item, 3), 0.7) * 6 + self.rng.integers(
            6, size=3 * (ITEMS + NEW)
        )
        self.title = words.reshape(-1, 3) + 1

    def _hint(self, taste, share):
        return np.where(
            self.rng.random(len(taste)) < share, taste, self.rng.integers(TASTES, size=len(taste))
        )

    def rows(self):
        """Clicks of the first users on the first items."""
        user = np.tile(np.arange(USERS), EVENTS)
        popular = 1 / (1 + np.arange(ITEMS // TASTES))
        wanted = self._hint(self.taste_of_user[user], 0.9)
        item = wanted + TASTES * self.rng.choice(
            ITEMS // TASTES, len(user), p=popular / popular.sum()
        )
        recent = np.zeros((len(user), 8), np.int32)
        for moment in range(1, EVENTS):
            past = (item.reshape(EVENTS, USERS) + 1)[max(0, moment - 8) : moment].T
            recent[moment * USERS : (moment + 1) * USERS, : past.shape[1]] = past
        return Rows(
            features={**self.items(item), **self.users(user, recent)},
            user=user,
            item=item,
            reward=np.ones(len(user), np.float32),
            time=np.arange(len(user)),
        )

    def items(self, item):
        """Transformed columns: new items have a shared row for their id."""
        known = np.where(item < ITEMS, item + 1, ITEMS + 1 + item % SHARED)
        return _int32({"item": known, "genre": self.genre[item], "title": self.title[item]})

    def users(self, user, recent=None):
        """Transformed columns: new users have a shared row for their id, and no history."""
        known = np.where(user < USERS, user + 1, USERS + 1 + user % SHARED)
        recent = np.zeros((len(user), 8), np.int32) if recent is None else recent
        alike = {name: values[user] for name, values in self.alike.items()}
        return _int32({"user": known, "city": self.city[user], "recent": recent, **alike})


def _int32(columns):
    return {name: x.astype(np.int32) for name, x in columns.items()}


@pytest.fixture(scope="module")
def world():
    world = World()
    world.clicks = world.rows()
    return world


def _trained(tiny, world, without=ALIKE, settled=True, **train):
    features = {name: f for name, f in FEATURES.items() if name not in without}
    train = {
        "dimension": 16,
        "layers": [],
        "batch_size": 256,
        "epochs": 4,
        "order": "shuffled",
        **train,
    }
    pipeline = tiny.pipeline(features, train=train)
    named = {
        "user": USERS,
        "item": ITEMS,
        "city": TASTES,
        "genre": TASTES,
        **dict.fromkeys(ALIKE, 2),
    }
    tokens = {name: pa.array([f"{name}{i}" for i in range(n)]) for name, n in named.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(towers, "OOV_BUCKETS", SHARED)
        model = TwoTower(design(pipeline, tokens), seed=0)
    clicks = world.clicks
    kept = {name: column for name, column in clicks.features.items() if name in features}
    rows = Rows(
        features=kept, user=clicks.user, item=clicks.item, reward=clicks.reward, time=clicks.time
    )
    run_training(
        model, StreamingFrequency(buckets=1000), [(date(2024, 5, 6), rows)], pipeline.train
    )
    if settled:
        zero_untrained_rows(model, 0, list(model.tables))
    return model


@pytest.fixture(scope="module")
def model(tiny, world):
    return _trained(tiny, world)


def _share_to_taste(world, model, user, item, recent=None, k=8):
    """Of each user's `k` best among some items, the share that is to their taste; chance is a
    sixth.
    """
    scores = (
        model("query", world.users(user, recent)).numpy()
        @ model("item", world.items(item)).numpy().T
    )
    best = item[np.argsort(-scores, axis=1)[:, :k]]
    return (world.taste_of_item[best] == world.taste_of_user[user][:, np.newaxis]).mean()


def test_new_items_find_their_users_by_content_alone(tiny, world, model):
    """Asked about new items only, a model that knows ids alone has nothing to tell them apart
    by.
    """
    newest = slice(-USERS, None)
    new, user, recent = (
        np.arange(ITEMS, ITEMS + NEW),
        world.clicks.user[newest],
        world.clicks.features["recent"][newest],
    )
    with_content = _share_to_taste(world, model, user, new, recent)
    ids_alone = _share_to_taste(
        world, _trained(tiny, world, without=(*ALIKE, *CONTENT)), user, new, recent
    )
    assert with_content > 0.6 and ids_alone < 0.3
    assert with_content > 2 * ids_alone


def test_new_items_hold_their_own_among_known_ones(world, model):
    """Their share of the lists is near their share of the corpus, though no click ever spoke for
    them.
    """
    newest = slice(-USERS, None)
    user, item = world.clicks.user[newest], np.arange(ITEMS + NEW)
    query = model("query", world.users(user, world.clicks.features["recent"][newest])).numpy()
    best = np.argsort(-query @ model("item", world.items(item)).numpy().T, axis=1)[:, :20]
    assert 0.24 < (best >= ITEMS).mean() < 0.45  # 48 of 168 is .29; without id dropout it was .18


def test_values_that_nobody_had_take_nothing_from_what_the_others_say(tiny, world, model):
    """Genres, cities and words of which no example told: without their random rows what is known is
    heard.
    """
    raw, unseen = _trained(tiny, world, settled=False), copy(world)
    unseen.city = np.full_like(world.city, TASTES + 1 + 2)
    unseen.genre = np.where(
        np.arange(ITEMS + NEW) < ITEMS, world.genre, TASTES + 1 + np.arange(ITEMS + NEW) % SHARED
    )
    unseen.title = world.title.copy()
    unseen.title[ITEMS:, 2] = 37 + np.arange(NEW) % 4
    newest = slice(-USERS, None)
    user, recent, new = (
        world.clicks.user[newest],
        world.clicks.features["recent"][newest],
        np.arange(ITEMS, ITEMS + NEW),
    )
    found, by_chance = (_share_to_taste(unseen, one, user, new, recent) for one in (model, raw))
    assert found > 0.35 and found > by_chance + 0.1


def test_new_users_get_lists_to_their_taste_from_context_alone(tiny, world, model):
    user, item = np.arange(USERS, USERS + NEW), np.arange(ITEMS)
    with_context = _share_to_taste(world, model, user, item)
    without = _share_to_taste(world, _trained(tiny, world, without=(*ALIKE, *CONTEXT)), user, item)
    assert with_context > 0.6 and without < 0.3


def test_who_says_nothing_is_given_what_is_popular(tiny, world):
    """What everybody likes is partly learned by the rows of what nearly all have in common. Who does
    not say that they have it too misses that part, unless some queries were trained without.
    """
    unknown = copy(world)
    unknown.city = np.zeros_like(world.city)
    unknown.alike = dict.fromkeys(ALIKE, unknown.city)
    nobody, item = np.arange(USERS, USERS + SHARED), np.arange(ITEMS)
    share_of_clicks = np.bincount(world.clicks.item, minlength=ITEMS) / len(world.clicks.item)
    found = []
    for share in (0.0, 0.05):
        model = _trained(tiny, world, without=(), context_dropout=share)
        query = model("query", unknown.users(nobody)).numpy()
        best = np.argsort(-query @ model("item", world.items(item)).numpy().T, axis=1)[:, :12]
        found.append(share_of_clicks[best].sum(axis=1).mean())
    assert found[1] > 0.75 * np.sort(share_of_clicks)[-12:].sum() and found[1] > 1.2 * found[0]
