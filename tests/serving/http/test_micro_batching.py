import asyncio
import threading

from serving.http import micro_batching
from serving.http.bodies import RecommendRequest
from serving.http.http_errors import Problem
from serving.http.micro_batching import Batcher, _Job
from serving.http.prometheus import Metrics
from serving.requests.request_model import ListRequest


def one(name: str, queries: int = 1, k: int = 10, deny: str | None = None) -> RecommendRequest:
    query = {"name": name} if deny is None else {"name": name, "_deny": deny}
    return RecommendRequest([query] * queries, ListRequest(k=k), single=queries == 1)


class Slow:
    """Answers with the names; the first batch only on demand. `batches` are the names of
    each batch, and of each part how many it had.
    """

    def __init__(self, most: int = 4, pending: int = 100) -> None:
        self.batches, self.go = list[list](), threading.Event()
        self.late = list[_Job]()
        self.batcher = Batcher(self.work, self.parts, Metrics(), most=most, pending=pending)
        self.batcher.start()

    def parts(self, request, most):
        left = len(request.queries)
        while left > 0:
            self.batches.append([request.queries[0]["name"], min(most, left)])
            if self.late:
                self.batcher._line_up(self.late.pop(0))
            yield min(most, left)
            left -= most
        return request.queries[0]["name"].encode()

    def work(self, asked):
        self.batches.append([a.queries[0]["name"] for a in asked])
        self.go.wait(10)
        return [
            ValueError("fails") if a.queries[0]["name"] == "bad" else a.queries[0]["name"].encode()
            for a in asked
        ]


async def submit(batcher: Batcher, request: RecommendRequest) -> bytes:
    return await batcher.submit(request)


async def ask_all(slow: Slow, wanted: list[RecommendRequest]) -> list:
    first = slow.batcher.submit(one("first"))
    while not slow.batches:
        await asyncio.sleep(0.001)
    rest = [asyncio.create_task(submit(slow.batcher, a)) for a in wanted]
    await asyncio.sleep(0.05)
    slow.go.set()
    return await asyncio.gather(first, *rest, return_exceptions=True)


def test_what_came_meanwhile_is_the_next_batch():
    slow = Slow(most=8)
    wanted = [one("a"), one("b"), one("bad"), one("c", 2), one("d", 2), one("e", 2), one("f")]
    result = asyncio.run(ask_all(slow, wanted))
    assert slow.batches == [["first"], ["a", "b", "bad", "c", "d"], ["e", "f"]]
    assert str(result.pop(3)) == "fails"
    assert result == [b"first", b"a", b"b", b"c", b"d", b"e", b"f"]
    slow.batcher.stop()


def test_long_lists_count_as_several():
    slow = Slow(most=16)
    asyncio.run(ask_all(slow, [*(one(name, k=301) for name in "abcd"), one("e")]))
    assert slow.batches == [["first"], ["a", "b", "c", "d"], ["e"]]
    slow.batcher.stop()


def test_a_heavy_query_shares_no_batch():
    slow = Slow(most=64, pending=1000)
    many = ["i"] * 10_000
    heavy = {
        "ids": RecommendRequest([{"name": "ids", "_seen": many}], ListRequest(), single=True),
        "more": RecommendRequest(
            [{"name": "more", "_exclude": many}] * 2, ListRequest(), single=False
        ),
        "why": one("why", k=10)._replace(options=ListRequest(k=10, explain=True)),
    }
    result = asyncio.run(ask_all(slow, [one("a"), *heavy.values(), one("b")]))
    assert slow.batches[:2] == [["first"], ["a", "b"]]
    assert sorted(slow.batches[2:]) == [["ids", 1], ["more", 1], ["more", 1], ["why", 1]]
    assert result == [b"first", b"a", b"ids", b"more", b"why", b"b"]
    slow.batcher.stop()


def test_a_heavy_query_waits_as_many_do():
    slow = Slow(pending=100)
    heavy = RecommendRequest([{"name": "ids", "_seen": ["i"] * 10_000}], ListRequest(), single=True)
    result = asyncio.run(ask_all(slow, [heavy, heavy, *(one(f"{n}") for n in range(50))]))
    assert isinstance(result.pop(2), Problem)
    assert result == [b"first", b"ids", *(f"{n}".encode() for n in range(50))]
    slow.batcher.stop()


def test_a_long_request_is_answered_part_by_part_between_the_others(monkeypatch):
    monkeypatch.setattr(micro_batching, "_TURN", 0)
    slow = Slow(most=8)
    slow.go.set()

    async def ask() -> list:
        loop = asyncio.get_running_loop()
        # One of these comes during each part.
        slow.late = [_Job(1, loop.create_future(), one(f"small {n}")) for n in range(5)]
        late = [job.future for job in slow.late]
        long = [slow.batcher.submit(one("long", 10)), slow.batcher.submit(one("other", 2, k=800))]
        return await asyncio.wait_for(asyncio.gather(*long, *late), 10)

    assert asyncio.run(ask())[:2] == [b"long", b"other"]
    slow.batcher.stop()
    assert slow.batches == [
        *(["long", 2], ["small 0"], ["other", 1], ["small 1"], ["long", 2], ["small 2"]),
        *(["other", 1], ["small 3"], ["long", 2], ["small 4"], ["long", 2], ["long", 2]),
    ]


def test_requests_with_a_filter_wait_for_no_others_and_hold_none_up():
    slow = Slow()
    wanted = [one("x", deny="1"), one("a"), one("y", deny="2"), one("b"), one("z", deny="1")]
    result = asyncio.run(ask_all(slow, wanted))
    assert slow.batches == [["first"], ["a", "b"], ["x", "z"], ["y"]]
    assert result == [b"first", b"x", b"a", b"y", b"b", b"z"]
    slow.batcher.stop()


def test_more_requests_with_a_filter_than_a_batch_has_room_for_take_several():
    slow = Slow(most=4)
    wanted = [one(name, deny="x") for name in "abcdef"]
    result = asyncio.run(asyncio.wait_for(ask_all(slow, wanted), 10))
    assert slow.batches == [["first"], ["a", "b", "c", "d"], ["e", "f"]]
    assert result == [b"first", b"a", b"b", b"c", b"d", b"e", b"f"]
    slow.batcher.stop()


def test_too_many_are_turned_away_at_once_and_the_others_answered():
    slow = Slow(pending=5)
    result = asyncio.run(ask_all(slow, [one(f"{n}") for n in range(7)]))
    turned = [f for f in result if isinstance(f, Problem)]
    assert [f.type for f in turned] == ["overloaded"] * 3
    assert sum(isinstance(f, bytes) for f in result) == 5
    slow.batcher.stop()


def test_long_requests_leave_room_for_the_others():
    slow = Slow(pending=20)
    wanted = [one("long", 9), one("more", 5), *(one(f"{n}") for n in range(10))]
    result = asyncio.run(ask_all(slow, wanted))
    assert isinstance(result.pop(2), Problem)
    assert result == [b"first", b"long", *(f"{n}".encode() for n in range(10))]
    slow.batcher.stop()


def test_nobody_works_for_those_who_have_gone():
    slow = Slow()

    async def leave() -> None:
        first = slow.batcher.submit(one("first"))
        while not slow.batches:
            await asyncio.sleep(0.001)
        gone = [slow.batcher.submit(one(name, n)) for name, n in (("a", 1), ("long", 40))]
        gone += [slow.batcher.submit(one("x", deny="1")), slow.batcher.submit(one("y", deny="1"))]
        for one_of_them in gone[:3]:
            one_of_them.cancel()
        slow.go.set()
        assert await gone[3] == b"y"
        assert await first == b"first"
        while slow.batcher._pending:
            await asyncio.sleep(0.001)

    asyncio.run(leave())
    assert slow.batches == [["first"], ["y"]]
    slow.batcher.stop()


def test_who_has_gone_meanwhile_spoils_no_other_answer():
    slow = Slow()
    batcher = slow.batcher

    async def leave() -> list:
        tasks = [batcher.submit(one(name)) for name in "abcd"]
        await asyncio.sleep(0.05)
        tasks[1].cancel()
        slow.go.set()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)

    result = asyncio.run(leave())
    assert [f for f in result if isinstance(f, bytes)] == [b"a", b"c", b"d"]
    batcher.stop()


def test_what_waits_at_the_end_is_answered():
    slow = Slow(most=100)
    batcher = slow.batcher

    async def end() -> list:
        tasks = [batcher.submit(one("0"))]
        while not slow.batches:
            await asyncio.sleep(0.001)
        tasks += [batcher.submit(one(f"{n}")) for n in range(1, 5)]
        await asyncio.sleep(0.05)
        stopped = asyncio.create_task(asyncio.to_thread(batcher.stop))
        await asyncio.sleep(0.05)
        slow.go.set()
        await stopped
        return await asyncio.wait_for(asyncio.gather(*tasks), 10)

    assert asyncio.run(end()) == [b"0", b"1", b"2", b"3", b"4"]


def test_with_two_workers_a_slow_batch_holds_no_other_one_up():
    begun, go = threading.Event(), threading.Event()

    def work(asked):
        if asked[0].queries[0]["name"] == "slow":
            begun.set()
            go.wait(10)
        return [a.queries[0]["name"].encode() for a in asked]

    batcher = Batcher(work, Slow.parts, Metrics(), most=4, pending=100, threads=2)
    batcher.start()

    async def ask() -> list:
        slow = batcher.submit(one("slow"))
        await asyncio.to_thread(begun.wait, 10)
        quick = await asyncio.wait_for(batcher.submit(one("quick")), 5)
        go.set()
        return [await slow, quick]

    assert asyncio.run(ask()) == [b"slow", b"quick"]
    batcher.stop()
