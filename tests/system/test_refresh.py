"""The shop's catalogue changes between two trainings: what a refresh makes of it, and what it
leaves alone.
"""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from index_builder import index_stage
from serving.requests.request_model import ListRequest
from serving.version.loaded_version import Version
from tests.system.days import FIRST, SECOND, THIRD, registry_of, twinspire
from twinspire.cli.ask import user_result
from twinspire.runs import day_run, live_catalogue
from twinspire.runs.day_run import DayRun
from twinspire.runs.live_catalogue import plan_refresh
from twinspire_core import storage
from twinspire_core.config.pipeline import load
from twinspire_core.config.source_registry import SOURCE_NAMES, answering
from twinspire_core.contracts import attempts
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.version_manifest import Manifest
from twinspire_core.errors import GateRefused, UsageError
from twinspire_core.search.index import load_index
from twinspire_core.search.top_k import exact_search

AT = date.fromisoformat(THIRD)
GONE = [f"i{n:03d}" for n in range(0, 20, 2)]
NEW = ["n1", "n2"]


@pytest.fixture
def changed(shop):
    """The shop with a snapshot of the third day: ten items are withdrawn, two are new; one costs
    more.
    """
    change(shop, THIRD, gone=GONE)
    return shop


def refresh(pipeline, day, **options):
    return live_catalogue.refresh(DayRun(pipeline, day), **options)


def find_parent(pipeline, day):
    return DayRun(pipeline, day).parent()


def change(shop, day, *, gone):
    [first] = (shop.parent / "items").glob("dt=*")
    rows = pl.read_parquet(first / "part-0.parquet").filter(~pl.col("item_id").is_in(gone))
    price = pl.when(pl.col("item_id") == "i021").then(999.0).otherwise("price")
    new = rows.head(2).with_columns(item_id=pl.Series(NEW))
    home = shop.parent / f"items/dt={day}"
    home.mkdir()
    pl.concat([rows.with_columns(price=price), new]).write_parquet(home / "part-0.parquet")


def cut(monkeypatch, owner, name, *, meanwhile=None):
    """A refresh that is ended when it comes to a step, or that something overtakes there."""
    real = getattr(owner, name)

    def step(*args):
        if meanwhile is None:
            raise SystemExit("killed")
        meanwhile()
        return real(*args)

    monkeypatch.setattr(owner, name, step)


def test_a_refresh_keeps_the_towers_and_updates_the_catalogue(changed, monkeypatch, capsys):
    p, registry = load(changed), registry_of(changed)
    trained, parent, log = registry.live(), find_parent(p, AT), registry.log()
    for owner, name, entries in ((index_stage, "run", 0), (attempts, "commit", 1)):
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            cut(patch, owner, name)
            refresh(p, AT)
        assert len(registry.log()) == len(log) + entries, (
            "killed before it was logged, and just after"
        )
    outcome = refresh(p, AT)
    version, described = outcome["version"], registry.verify(outcome["version"])
    assert registry.live() == version and registry.log()[-1].version == version
    assert len(registry.log()) == len(log) + 1
    assert (outcome["new"], outcome["withdrawn"]) == (2, 10)

    # What is of the training is the trained version's; days go on as if there were no refresh.
    before = registry.manifest(trained)
    of_training = ("query_tower/", "item_tower/", "metrics", "fixed_order")
    kept = [name for name in before.files if name.startswith(of_training)]
    assert len(kept) > 5 and all(described.files[name] == before.files[name] for name in kept)
    assert (described.date, described.parent) == (before.date, before.parent)
    assert (described.corpus_date, described.refreshes) == (AT, trained)
    assert described.sources["train"] == before.sources["train"]
    assert find_parent(p, AT) == parent and parent.version == trained

    # The catalogue, its vectors and its index are what a rebuild from nothing makes.
    home = registry.open(version)
    items = pq.read_table(home / "items.parquet")
    names = items["_item"].to_pylist()
    assert set(NEW) <= set(names) and not set(GONE) & set(names) and len(names) == 112
    features = Path(outcome["attempt"], "features")
    fresh = embedded_anew(home / "item_tower", pq.read_table(features / "corpus/end"))
    loaded = load_index(home / "index")
    assert np.allclose(loaded.vectors, fresh, atol=1e-6)
    queries = np.stack(pq.read_table(f"{outcome['attempt']}/embed/queries")["vector"].to_numpy())
    _, scores = loaded.search(queries, 20)
    _, best = exact_search(fresh, queries, 20)
    assert np.allclose(scores, best, atol=1e-5) and len(queries) > 100, (
        "the same neighbours, found at the same recall"
    )
    near = pq.read_table(home / "co_occurrence.parquet")
    assert pc.max(pc.list_flatten(near["_rows"])).as_py() < len(names), (
        "neighbours are rows of the new catalogue"
    )
    user = next(
        u["_user"] for u in pq.read_table(home / "users").to_pylist() if set(u["_past"]) & set(GONE)
    )
    for source in Version.open(p).sources:
        shown = user_result(Version.open(p), user, ListRequest(k=112, source=source))
        listed = {item["item"] for item in shown["items"]}
        assert shown["version"] == version and not listed & set(GONE) and listed >= set(NEW), source

    # Once more is nothing more; done over, it is the same version.
    assert refresh(p, AT)["status"] == "already done"
    asked = []
    real = day_run.find_start
    monkeypatch.setattr(
        "twinspire.runs.live_catalogue.find_start",
        lambda run, version: asked.append((run.day, version)) or real(run, version),
    )
    again = refresh(p, AT, force=True)
    assert asked == [(AT, trained)]
    assert (again["status"], again["version"]) == ("done", version)
    assert len(registry.log()) == len(log) + 1
    with pytest.raises(UsageError, match="twinspire rollback"):
        refresh(p, date.fromisoformat(FIRST))
    live, other, _ = registry.statuses()
    assert (live.version, str(live.date), live.corpus_date) == (version, SECOND, AT)
    assert (other.version, other.corpus_date, other.status) == (trained, other.date, "accepted")

    registry.rollback(trained, reason="not wanted")
    capsys.readouterr()
    assert not refresh(p, AT)["live"], "what was rolled back does not come back by itself"
    said = capsys.readouterr().err
    assert f"{version} was rolled back" in said and "--despite-gate" in said


def embedded_anew(tower, corpus):
    """Vectors of all rows in one call, [N, D], in order of id."""
    import tensorflow as tf

    from twinspire_core.contracts.model_bundle import Tower

    return Tower(tf.saved_model.load(str(tower)))(corpus.sort_by("_item"))


@pytest.mark.system
def test_a_refresh_has_the_tables_of_all_sources(changed):
    names = ", ".join(f'"{name}"' for name in SOURCE_NAMES)
    changed.write_text(f"{changed.read_text()}\n[sources]\nuse = [{names}]\n")
    # The first day too: its rows are those of these sources, enough for a ranker
    twinspire("run", str(changed), "--from", FIRST, "--to", SECOND, "--force")
    served = GateVerdict.read(Version.open(load(changed)).home).serves
    outcome = refresh(load(changed), AT)
    version = Version.open(load(changed))
    assert version.id == outcome["version"] and set(version.sources) == set(answering())
    assert GateVerdict.read(version.home).serves == served is not None
    users = pq.read_table(Path(outcome["attempt"], "features/users"))["_user"].to_pylist()
    for source in version.sources:
        lists = [
            user_result(version, user, ListRequest(k=112, source=source)) for user in users[:5]
        ]
        listed = {item["item"] for one in lists for item in one["items"]}
        assert not listed & set(GONE) and listed >= set(NEW), source


@pytest.mark.system
def test_a_refresh_without_a_source_says_why(changed):
    declared = changed.read_text()
    changed.write_text(
        f'{declared}\n[sources]\nuse = ["two_tower", "history", "popular", "neighbours"]\n'
    )
    twinspire("run", str(changed), "--from", FIRST, "--to", SECOND, "--force")
    trained = Version.open(load(changed))
    assert "ranked" in trained.sources
    changed.write_text(declared)
    refresh(load(changed), AT)
    version = Version.open(load(changed))
    assert "ranked" not in version.sources and version.warnings == []
    verdict = GateVerdict.read(version.home)
    assert verdict.serves == "fixed_order"
    (note,) = [note for note in verdict.notes if "ranker" in note]
    assert note.startswith(
        f"the ranker of {trained.id} is left out, as it uses lists of neighbours"
    )
    (note,) = [note for note in verdict.notes if note.startswith("the fixed order of")]
    assert note.startswith(
        f"the fixed order of {trained.id} does not use lists of neighbours: sources.use"
    )


def test_a_replaced_catalogue_is_refused(shop):
    p, registry = load(shop), registry_of(shop)
    change(shop, THIRD, gone=[f"i{n:03d}" for n in range(70)])
    live = registry.live()
    for is_found in (False, True):
        with pytest.raises(
            GateRefused, match="70 items are gone from the previous catalogue of 120"
        ) as raised:
            refresh(p, AT)
        assert raised.value.is_found == is_found
    assert registry.live() == live and registry.log()[-1].action == "refuse"
    assert len(registry.log()) == 3


def test_a_refresh_without_new_logs_is_refused_at_once(shop):
    """Windows would move on past all logs, until nothing is counted in them."""
    registry, late = registry_of(shop), "2024-05-01"
    live = registry.live()
    outcome = twinspire("refresh", str(shop), "--date", late, check=4)
    assert f"{late} has no logs, and no snapshot is newer" in outcome["reason"]
    assert "Refresh 2024-03-14, the newest day with logs" in outcome["reason"]
    assert attempts.latest(load(shop), date.fromisoformat(late), "refresh") is None
    assert registry.live() == live
    change(shop, "2024-04-30", gone=GONE)
    run = DayRun(load(shop), date.fromisoformat(late))
    assert plan_refresh(run, None, "auto").parent == live, "a newer snapshot is something new"


@pytest.mark.system
def test_a_later_version_does_not_restore_withdrawn_items(changed, tmp_path):
    """A version of the third day, made of the second's files, is published after a refresh of the
    day after that.
    """
    p, registry = load(changed), registry_of(changed)
    trained, after = registry.live(), date(2024, 3, 12)
    refreshed = refresh(p, after)
    assert refreshed["live"]
    storage.copy_tree(f"{registry.root}/shop/versions/{trained}", str(tmp_path / "staged"))
    (tmp_path / "staged/manifest.json").unlink()
    old = registry.manifest(trained)
    names = ("settings", "items", "dimension", "sources", "quality")
    fields = {name: getattr(old, name) for name in names}
    described = Manifest.create(pipeline="shop", day=AT, files=old.files, parent=trained, **fields)
    registry.publish(str(tmp_path / "staged"), described, accepted=True, reason="")
    assert registry.live() == refreshed["version"], (
        "its towers are newer, but its catalogue is older"
    )
    run = DayRun(p, AT)
    outcome = live_catalogue.catch_up(run, described.version)
    live = registry.manifest(registry.live())
    assert (live.version, live.date, live.corpus_date) == (outcome["version"], AT, after)
    assert outcome["live"]
    assert live.refreshes == outcome["trained"] == described.version and live.items == 112
    assert live_catalogue.catch_up(run, described.version)["version"] == live.version
    assert len(registry.log()) == 5
    assert find_parent(p, date(2024, 3, 13)).version == described.version


@pytest.mark.system
def test_a_refused_days_full_catalogue_replaces_its_noon_catalogue(shop):
    """A refresh of a day that is not over counts what its logs hold by then."""
    p, registry = load(shop), registry_of(shop)
    [part] = (shop.parent / f"events/dt={THIRD}").iterdir()
    whole = part.read_bytes()
    pl.read_parquet(part).head(100).write_parquet(part)
    noon = refresh(p, AT)["version"]
    assert registry.live() == noon
    part.write_bytes(whole)
    followed = live_catalogue.follow(DayRun(p, AT))
    assert followed == registry.live() != noon
    assert str(registry.manifest(followed).corpus_date) == THIRD
    assert live_catalogue.follow(DayRun(p, AT)) is None, "it has all of it"
    assert refresh(p, AT)["version"] == followed, "somebody asks for the same"
    made = attempts.latest(p, AT, "refresh")
    assert live_catalogue.follow(DayRun(p, AT)) is None
    assert attempts.latest(p, AT, "refresh") == made and registry.log()[-1].version == followed
