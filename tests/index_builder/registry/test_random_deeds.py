"""Random deeds on a registry against a plain model of what should come of them."""

import contextlib
import os
from datetime import date
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from index_builder.registry.registry import Registry, prunable
from tests.index_builder.registry.staging import cut_at, staged
from tests.index_builder.registry.test_races import before
from twinspire_core.errors import UsageError


class Deeds(RuleBasedStateMachine):
    """Random deeds against a plain model of what should be live, inherited and kept."""

    def __init__(self):
        super().__init__()
        import tempfile

        self.home = tempfile.TemporaryDirectory()
        self.registry = Registry(f"{self.home.name}/registry", "p")
        self.live, self.accepted, self.day, self.count = None, [], {}, 0
        self.stored, self.pinned = set(), set()
        self.corpus, self.trained = {}, {}

    def teardown(self):
        self.home.cleanup()

    @rule(
        day=st.integers(1, 9),
        accepted=st.booleans(),
        promote=st.sampled_from(["auto", "yes", "no"]),
        cut=st.none()
        | st.tuples(
            st.sampled_from(["mkdir", "fsync", "replace", "link", "unlink"]), st.integers(0, 30)
        ),
        rival=st.none() | st.integers(1, 9),
    )
    def publish(self, day, accepted, promote, cut, rival):
        """Perhaps cut off at some operation and begun again, perhaps overtaken by another
        publisher.
        """
        self.store(day, day, accepted, promote, cut, rival)

    @precondition(lambda self: self.accepted)
    @rule(data=st.data(), later=st.integers(0, 3), accepted=st.booleans())
    def refresh(self, data, later, accepted):
        trained = self.trained.get(version := data.draw(st.sampled_from(self.accepted)), version)
        fields = {"refreshes": trained, "corpus_date": date(2017, 10, self.day[trained] + later)}
        made = self.store(self.day[trained], self.day[trained] + later, accepted, "auto", **fields)
        self.trained[made] = trained

    def store(self, day, corpus, accepted, promote, cut=None, rival=None, **fields):
        self.count += 1
        home = Path(self.home.name, str(self.count))
        made = staged(home, date(2017, 10, day), str(self.count), **fields)
        version, asked = made[1].version, {"accepted": accepted, "reason": "", "promote": promote}
        if cut:
            with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SystemExit):
                cut_at(patch, os, *cut)
                self.registry.publish(*made, **asked)
            assert self.registry.live() in (self.live, version), "the old version or the new one"
        with pytest.MonkeyPatch.context() as patch:
            if rival is not None:
                before(patch, ".json", lambda: self.store(rival, rival, True, "auto"))
            self.registry.publish(*made, **asked)
        self.day[version], self.corpus[version] = day, corpus
        self.stored.add(version)
        if accepted:
            self.accepted.append(version)
            live = self.live
            newer = live is None or (day >= self.day[live] and corpus >= self.corpus[live])
            if promote == "yes" or (promote == "auto" and newer):
                self.live = version
        return version

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), despite=st.booleans())
    def promote(self, data, despite):
        version = data.draw(st.sampled_from(sorted(self.stored)))
        if version not in self.accepted and not despite:
            with pytest.raises(UsageError):
                self.registry.promote(version, reason="")
            return
        self.registry.promote(version, reason="", despite_gate=despite)
        self.live = version
        if version not in self.accepted:
            self.accepted.append(version)

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def rollback(self, data):
        target = data.draw(st.sampled_from(self.accepted))
        self.registry.rollback(target, reason="")
        place = {v: (self.day[v], n) for n, v in enumerate(self.accepted)}
        self.live, self.accepted = target, [v for v in self.accepted if place[v] <= place[target]]

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), pin=st.booleans())
    def pin(self, data, pin):
        version = data.draw(st.sampled_from(sorted(self.stored)))
        self.registry.pin(version, remove=not pin)
        (self.pinned.add if pin else self.pinned.discard)(version)

    @precondition(lambda self: self.stored)
    @rule(keep=st.integers(0, 3), keep_days=st.integers(0, 5))
    def prune(self, keep, keep_days):
        today = 10
        spare = prunable(self.registry, keep=keep, keep_days=keep_days, as_of=date(2017, 10, today))
        for version in spare:
            assert version in self.stored and version != self.live and version not in self.pinned
            assert today - self.day[version] > keep_days
            self.registry.delete(version)
        self.stored -= set(spare)
        self.accepted = [v for v in self.accepted if v in self.stored]
        old = [v for v in self.stored if today - self.day[v] > keep_days]
        assert len([v for v in old if v != self.live and v not in self.pinned]) <= keep

    @invariant()
    def agrees(self):
        assert self.registry.live() == self.live
        assert self.registry.state().accepted == self.accepted
        assert {s.version for s in self.registry.statuses() if s.stored} == self.stored
        assert {s.version for s in self.registry.statuses() if s.pinned} == self.pinned
        for day in (1, 5, 10):
            parent = self.registry.accepted_before(date(2017, 10, day))
            days = [self.day[v] for v in self.accepted if self.day[v] < day]
            assert (parent.date.day if parent else None) == (max(days) if days else None)
            if parent:
                same = [v for v in self.accepted if self.day[v] == max(days)]
                assert parent.version == ([v for v in same if v not in self.trained] or same)[-1]
        for version in self.stored:
            self.registry.verify(version)


TestDeeds = Deeds.TestCase
TestDeeds.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
