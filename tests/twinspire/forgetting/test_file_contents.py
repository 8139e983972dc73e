"""Files that hold users, mended: what goes, and what must not."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2 as pb

from beam_jobs.ingest.record_blocks import VALUE_LENGTH
from beam_jobs.validation import statistics
from model.training import checkpoint
from tests.shop import PIPELINE
from tests.traces import holders
from twinspire.forgetting.file_contents import UserFiles
from twinspire_core import storage
from twinspire_core.config.pipeline import load
from twinspire_core.contracts import example_lists
from twinspire_core.contracts.example_lists import ExampleList

USERS = frozenset(["7", "forget-me"])


@pytest.fixture
def pipeline(tmp_path):
    file = tmp_path / "pipeline/shop.toml"
    file.parent.mkdir()
    # A second column that is the user's id under another name, beside the feature of that kind
    file.write_text(
        PIPELINE.replace(
            "[features.device]",
            '[features.account]\nkind = "category"\ntower = "query"\ncolumn = "user_id"\n'
            "[features.device]",
        )
    )
    return load(file)


@pytest.fixture
def mended(pipeline, tmp_path):
    """Mends the only file of a folder; its new content, None if nothing was to be done."""

    def mend(folder):
        (file,) = storage.list_files(str(folder))
        # As files are listed by whoever asks: by their path below the pipeline's working files
        return UserFiles(pipeline).without(file, USERS)

    return mend


def put(tmp_path, path, content) -> None:
    place = tmp_path / "files" / path
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    return tmp_path / "files"


@pytest.mark.parametrize("codec", ["zstd", "snappy", "none"])
def test_rows_of_a_table_go_and_all_else_stays(mended, tmp_path, codec):
    rows = pa.table(
        {"_user": ["1", "7", None, "forget-me", "70"], "_item": ["7", "1", "7", "7", "7"]},
        metadata={b"kept": b"yes"},
    )
    folder = put(tmp_path, "examples/00.parquet", b"")
    pq.write_table(rows, folder / "examples/00.parquet", compression=codec, row_group_size=2)
    content = mended(folder)
    found = pq.ParquetFile(pa.BufferReader(content))
    assert found.read().to_pydict() == {"_user": ["1", None, "70"], "_item": ["7", "7", "7"]}
    assert found.schema_arrow.metadata == {b"kept": b"yes"}
    assert found.metadata.row_group(0).num_rows == 2
    before = pq.ParquetFile(folder / "examples/00.parquet").metadata.row_group(0).column(0)
    assert found.metadata.row_group(0).column(0).compression == before.compression


@pytest.mark.parametrize("rows", [{"_user": ["70"]}, {"_item": ["7"]}, {"_user": pa.nulls(0)}])
def test_a_table_of_others_is_left_alone(mended, tmp_path, rows):
    folder = put(tmp_path, "users/0.parquet", b"")
    pq.write_table(pa.table(rows), folder / "users/0.parquet")
    assert mended(folder) is None


@pytest.mark.parametrize("name", ["user", "account"])
def test_lines_of_a_vocabulary_stay_where_they_are(mended, tmp_path, name):
    folder = put(tmp_path, f"query_tower/assets/{name}", b"1\n7\n70\nforget-me\n")
    lines = mended(folder).decode().split("\n")
    assert [lines[0], lines[2], lines[4]] == ["1", "70", ""] and len(set(lines)) == 5
    assert lines[1].startswith("forgotten-") and lines[3].startswith("forgotten-")


@pytest.mark.parametrize("name", ["item", "device", "city"])
def test_a_value_that_happens_to_be_called_like_a_user_is_not_one(mended, tmp_path, name):
    assert mended(put(tmp_path, f"transform_fn/assets/{name}", b"1\n7\n")) is None


def test_keys_of_a_training_state_go_with_their_rows(mended, tmp_path):
    keys = ["", "=1", "=7", "=forget-me", "oov:7"]
    values = np.arange(10, dtype=np.float32).reshape(5, 2)
    table = checkpoint.TableState(
        keys=pa.array(keys),
        values=values,
        slots=values,
        left=pa.nulls(5, pa.date32()),
        shared=1,
        hashed=False,
    )
    folder = put(tmp_path, "state/tables/user.arrow", b"")
    checkpoint._save_table(table, folder / "state/tables/user.arrow")
    (folder / "state/tables/user.arrow").write_bytes(mended(folder))
    found = checkpoint._load_table(folder / "state/tables/user.arrow", shared=1, hashed=False)
    assert found.keys.to_pylist() == ["", "=1", "oov:7"]
    assert found.values.tolist() == values[[0, 1, 4]].tolist() == found.slots.tolist()
    assert not holders(folder, "forget-me")


def test_statistics_of_the_ids_alone_lose_the_value(mended, tmp_path):
    stats = pb.DatasetFeatureStatisticsList()
    data = stats.datasets.add(num_examples=9)
    for name in ("user", "device", "price"):
        feature = data.features.add()
        feature.path.step.append(name)
        if name == "price":
            feature.num_stats.mean = 7
            continue
        for rank, value in enumerate(["7", "8"]):
            feature.string_stats.top_values.add(value=value, frequency=2)
            feature.string_stats.rank_histogram.buckets.add(
                low_rank=rank, high_rank=rank, label=value, sample_count=2
            )
    for name in ("stats.binpb", "stats.json"):
        folder = tmp_path / name
        folder.mkdir()
        statistics.write(stats, str(folder))
        for other in folder.iterdir():
            if other.name != name:
                other.unlink()
        content = mended(folder)
        (folder / name).write_bytes(content)
        assert mended(folder) is None, "it was mended"
        if name == "stats.binpb":
            found = statistics.by_name(statistics.read(str(folder)))
            values = {
                key: [bucket.label for bucket in one.string_stats.rank_histogram.buckets]
                for key, one in found.items()
            }
            assert values == {"user": ["8"], "device": ["7", "8"], "price": []}
            assert found["price"].num_stats.mean == 7
        else:
            found = json.loads(content)["datasets"][0]["features"]
            top = [
                [value["value"] for value in one.get("stringStats", {}).get("topValues", [])]
                for one in found
            ]
            assert top == [["8"], ["7", "8"], []]


def test_example_lists_of_theirs_go(mended, tmp_path):
    lists = [
        ExampleList(user=user, past_events=1, history=["7"], items=["7"], taken=[])
        for user in ("7", "8")
    ]
    content = mended(put(tmp_path, "train/examples.json", example_lists.dump(lists)))
    assert [one.user for one in example_lists.parse(content)] == ["8"]


def test_texts_that_were_set_aside_go_where_they_name_a_user_or_were_cut_short(mended, tmp_path):
    values = ["who: forget-me!", "x" * VALUE_LENGTH, "what: 'y'"]
    lines = "".join(json.dumps({"row": 1, "value": value}) + "\n" for value in values)
    content = mended(put(tmp_path, "a/rejected/records.jsonl", lines.encode()))
    found = [json.loads(line)["value"] for line in content.splitlines()]
    assert ["withheld" in value for value in found] == [True, True, False]


def test_a_page_holds_whom_its_headings_name(mended, tmp_path):
    page = b"<h3>User 7, 4 events before</h3><h3>User 70, new</h3><td>7</td>"
    content = mended(put(tmp_path, "v/report.html", page))
    assert content == b"<h3>A forgotten user, 4 events before</h3><h3>User 70, new</h3><td>7</td>"


def test_ids_that_are_no_feature_are_known_by_their_column(tmp_path):
    found = UserFiles(
        SimpleNamespace(
            columns=SimpleNamespace(user="who", users_key="id"),
            columns_of={"events": {"a": "who", "b": "x"}, "users": {"c": "id", "d": "who"}}.get,
            user_id=None,
        )
    )
    assert found.columns == {"a", "c"}
