from threading import Thread

import numpy as np

from serving.version.event_buffer import NOBODY, EventBuffer, Events


def test_the_newest_are_kept():
    events = EventBuffer(8)
    for n in range(10):
        events.add(Events.of([f"i{n}"], np.array([n])))
    number, kept = events.after(0)
    assert (number, kept.items) == (10, [f"i{n}" for n in range(10)]), "up to a quarter more"
    events.add(Events.of(["i10"], np.array([10])))
    number, kept = events.after(0)
    assert number == 11
    assert (kept.items, kept.times.tolist()) == ([f"i{n}" for n in range(3, 11)], [*range(3, 11)])
    assert events.after(9)[1].items == ["i9", "i10"]
    number, kept = events.after(11)
    assert (number, kept.items) == (11, [])


def test_only_of_users_that_are_named_is_a_number_kept():
    made = Events.of(["a", "b", "c", "d"], np.arange(4), ["u", None, "", "u"])
    assert (made.users == NOBODY).tolist() == [False, True, True, False]
    assert made.users[0] == made.users[3]
    assert Events.of(["a"], np.arange(1)).users.tolist() == [NOBODY]


def test_threads_lose_nothing():
    events = EventBuffer(10_000)

    def tell(name: int) -> None:
        for n in range(500):
            events.add(Events.of([f"{name}-{n}"], np.array([n])))

    threads = [Thread(target=tell, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    number = 0
    found: list[str] = []
    while any(thread.is_alive() for thread in threads) or number < 2000:
        number, kept = events.after(number)
        found += kept.items
    assert len(found) == len(set(found)) == 2000
