import numpy as np

from serving.version.event_buffer import Events
from serving.version.new_items import NewItems
from tests.serving.version.followed_version import HOUR


def test_users_who_are_days_apart_are_not_enough():
    new = NewItems(10)
    new.add(Events.of(["a", "a", "a"], np.array([0, 1, 25]) * HOUR, ["u", "v", "w"]))
    new.add(Events.of(["b", "b", "b"], np.array([2, 2, 25]) * HOUR, ["u", "v", "w"]))
    found = new.find()
    assert found is not None and found.ids == ["b"] and new.ids == []
    assert (found.events.times / HOUR).tolist() == [2, 2, 25]
    new.take_up(found)
    assert new.ids == ["b"]
    new.add(Events.of(["a"], np.array([25]) * HOUR, ["v"]))
    assert new.find() is None
