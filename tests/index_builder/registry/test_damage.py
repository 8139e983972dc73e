import os
import time
from datetime import date
from pathlib import Path

import pytest

from index_builder.registry.registry import Registry
from tests.index_builder.registry.staging import ONE, THREE, TWO, contents, staged, store_of
from tests.published import described
from twinspire_core import storage
from twinspire_core.contracts.version_manifest import File
from twinspire_core.errors import BadData, UsageError


def test_a_published_version_is_never_altered(publish, registry, tmp_path):
    one = publish(ONE, "one")
    home = f"{registry.root}/p/versions/{one}"

    def snapshot():
        if not storage.is_remote(home):
            return {
                p: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes())
                for p in Path(home).rglob("*.*")
            }
        files = storage.list_files(home)
        return {file.path: (file.written, storage.read_bytes(file.uri)) for file in files}

    first = snapshot()
    publish(ONE, "one")
    publish(TWO)
    registry.rollback(reason="")
    registry.pin(one)
    registry.promote(one, reason="")
    registry.verify(one)
    registry.open(cache=tmp_path / "cache")
    assert snapshot() == first and len(first) == 3


def test_a_lost_entry_stops_everything(publish, registry):
    publish(ONE)
    publish(TWO)
    storage.delete_file(f"{registry.root}/p/log/00000001.json")
    for use in (
        registry.log,
        registry.live,
        registry.open,
        registry.state,
        lambda: publish(THREE),
        lambda: registry.rollback(reason=""),
    ):
        with pytest.raises(BadData, match=r"00000001\.json"):
            use()


def test_an_entry_far_behind_the_last_one_makes_nothing_live(publish, registry):
    publish(ONE)
    entry = storage.read_bytes(f"{registry.root}/p/log/00000001.json")
    far = entry.replace(b'"number": 1', b'"number": 99999999')
    storage.write_bytes(f"{registry.root}/p/log/99999999.json", far)
    with pytest.raises(BadData, match=r"00000002\.json"):
        registry.live()


def test_foreign_files_in_the_log_are_no_entries(publish, registry):
    one = publish(ONE)
    for name in ("zz-notes.txt", "00000009.json.bak", "README", "0000000².json"):
        storage.write_bytes(f"{registry.root}/p/log/{name}", b"hello")
    two = publish(TWO)
    assert [e.version for e in registry.log()] == [one, two] and registry.live() == two


def test_a_listing_made_while_entries_come_may_have_holes(publish, registry, monkeypatch):
    publish(ONE)
    two = publish(TWO)
    real = storage.list_names
    monkeypatch.setattr(
        storage, "list_names", lambda uri: [n for n in real(uri) if n != "00000001.json"]
    )
    assert len(registry.log()) == 2 and registry.live() == two


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "half downloaded"])
def test_a_damaged_local_copy_is_replaced(remote_place, tmp_path, damage):
    registry, cache = Registry(remote_place, "p"), tmp_path / "cache"
    registry.publish(*staged(tmp_path / "new", ONE, "twelve bytes"), accepted=True, reason="")
    copy = registry.open(cache=cache)
    victim = copy / "index/data.txt"
    if damage == "half downloaded":
        victim.unlink()
        (copy / "items.txt").unlink()
    elif damage == "missing":
        victim.unlink()
    else:
        victim.write_text("twelve" if damage == "truncated" else "TWELVE BYTES")
    assert contents(registry, cache) == {"twelve bytes"}
    assert [p.name for p in (cache / "p").iterdir()] == [copy.name], "nothing is left over"


def test_one_file_is_read_as_it_was_published(publish, registry):
    version = publish(ONE, "twelve bytes")
    assert registry.read(version, "index/data.txt") == b"twelve bytes"
    place = registry.place(version, "index/data.txt")
    for damage in (
        lambda: storage.write_bytes(place, b"TWELVE BYTES"),
        lambda: storage.delete_file(place),
    ):
        damage()
        with pytest.raises(BadData, match=r"index/data\.txt"):
            registry.read(version, "index/data.txt")
    with pytest.raises(UsageError, match=r"lists no file \.\./manifest"):
        registry.read(version, "../manifest.json")


def test_copies_that_nobody_opens_and_killed_downloads_are_forgotten(
    remote_place, tmp_path, monkeypatch
):
    registry, cache = Registry(remote_place, "p"), tmp_path / "cache"
    made = []
    for day in (ONE, TWO, THREE, date(2017, 10, 4)):
        folder, described_ = staged(tmp_path / str(day), day, "x")
        made.append(registry.publish(folder, described_, accepted=True, reason="").version)
        registry.open(cache=cache)
    (cache / "p/.tmp-killed").mkdir()
    (cache / "p/kept.html").touch()
    (cache / "p/notes").mkdir()
    for name in (*made, ".tmp-killed", "kept.html", "notes"):
        os.utime(cache / "p" / name, (time.time() - 8 * 86_400,) * 2)
    os.utime(cache / "p" / made[3], (time.time() - 6 * 86_400,) * 2)
    registry.keep(cache / "p" / made[2])  # a server answers from it
    registry.open(made[1], cache=cache)
    assert sorted(p.name for p in (cache / "p").iterdir()) == [*made[1:], "kept.html", "notes"]


def test_a_published_folder_that_is_used_in_place_is_not_touched(tmp_path):
    registry = Registry(str(tmp_path / "registry"), "p")
    registry.publish(*staged(tmp_path / "new", ONE, "x"), accepted=True, reason="")
    home = registry.open()
    os.utime(home, (1, 1))
    registry.keep(home)
    assert home.stat().st_mtime == 1


def test_what_is_there_for_other_readers_is_left_where_it_is(place, tmp_path):
    registry, cache = Registry(place, "p"), tmp_path / "cache"
    folder, _ = staged(tmp_path / "new", ONE, "x")
    storage.write_bytes(f"{folder}/tensorflow_serving/1/saved_model.pb", b"large")
    registry.publish(folder, described(folder, "p", ONE), accepted=True, reason="")
    own = registry.open(cache=cache)
    assert (own / "items.txt").exists()
    assert (own / "tensorflow_serving").exists() == (not storage.is_remote(place))


def test_a_copy_that_is_whole_is_not_downloaded_again(remote_place, tmp_path, monkeypatch):
    registry = Registry(remote_place, "p")
    registry.publish(*staged(tmp_path / "new", ONE, "x"), accepted=True, reason="")
    registry.open(cache=tmp_path / "cache")
    monkeypatch.setattr(store_of(remote_place), "download", lambda *_: pytest.fail("downloaded"))
    registry.open(cache=tmp_path / "cache")


def _flipped(data):
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


DAMAGES = {
    "half": lambda data, other: data[: len(data) // 2],
    "one byte short": lambda data, other: data[:-1],
    "longer": lambda data, other: data + b"}",
    "empty": lambda data, other: b"",
    "one bit": lambda data, other: _flipped(data),
    "another's": lambda data, other: other,
}


@pytest.mark.parametrize("place", ["disk"], indirect=True)
@pytest.mark.parametrize("damage", DAMAGES)
def test_any_damage_to_any_file_is_detected(publish, registry, tmp_path, damage):
    """But for one bit of a manifest's figures, which no digest covers."""
    other, version = publish(ONE, "other text"), publish(TWO, "twelve bytes")
    home = Path(registry.root, "p/versions", version)
    spared = "manifest.json" if damage == "one bit" else ""
    files = [file for file in home.rglob("*") if file.is_file() and file.name != spared]
    for file in files:
        kept = file.read_bytes()
        file.write_bytes(
            DAMAGES[damage](kept, (home.parent / other / file.relative_to(home)).read_bytes())
        )
        for use in (
            registry.open,
            lambda: registry.verify(version),
            lambda: registry.promote(version, reason=""),
        ):
            with pytest.raises(BadData, match=version):
                use()
        file.write_bytes(kept)
    assert len(files) in (2, 3) and registry.verify(version)


@pytest.mark.parametrize("place", ["disk"], indirect=True)
@pytest.mark.parametrize("damage", ["half", "longer", "empty", "another's"])
def test_a_damaged_entry_stops_everything(publish, registry, damage):
    publish(ONE)
    publish(TWO)
    first, last = (Path(registry.root, f"p/log/0000000{n}.json") for n in (1, 2))
    last.write_bytes(DAMAGES[damage](last.read_bytes(), first.read_bytes()))
    for use in (registry.live, registry.open, registry.log, lambda: publish(THREE)):
        with pytest.raises(BadData, match=r"00000002\.json"):
            use()


def test_a_manifest_of_another_version_is_detected(publish, registry):
    """Also where it describes equal files."""
    one, two = publish(ONE, "same"), publish(TWO, "same")
    first, second = (
        storage.join(registry.root, "p/versions", version, "manifest.json")
        for version in (one, two)
    )
    storage.write_bytes(second, storage.read_bytes(first))
    for use in (registry.open, lambda: registry.verify(two), lambda: registry.manifest(two)):
        with pytest.raises(BadData, match=one):
            use()


def test_a_version_of_another_pipeline_is_detected(registry, publish, tmp_path):
    """Whoever copies a version's folder and its entry makes it live in a registry of another."""
    publish(TWO)
    own = Path(tmp_path / "other" / "q")
    other = Registry(str(own.parent), "q")
    folder, _ = staged(tmp_path / "foreign", ONE, "x")
    foreign = described(folder, "q", ONE)
    other.publish(folder, foreign, accepted=True, reason="")
    home = f"{registry.root}/p/versions/{foreign.version}"
    storage.copy_tree(str(own / "versions" / foreign.version), home)
    for use in (registry.open, registry.manifest, registry.verify):
        with pytest.raises(BadData, match="is of q\\. Somebody copied it"):
            use(foreign.version)


def test_an_id_that_does_not_match_the_files_is_detected(registry, publish):
    one = publish(ONE, "twelve bytes")
    place = f"{registry.root}/p/versions/{one}/manifest.json"
    described = registry.manifest(one)
    # As if both a file and its digest had been altered.
    files = {**described.files, "items.txt": File(sha256="0" * 64, size=12)}
    altered = described.model_copy(update={"files": files})
    storage.write_bytes(place, altered.dump())
    with pytest.raises(BadData, match="id must match"):
        registry.manifest(one)
