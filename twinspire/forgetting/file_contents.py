"""A file of a stage or of a version without some users: what kinds of file hold them, and how each is
mended.

Rows of `_user` go, wherever they are. A vocabulary keeps its lines, since rows of weights are told by
them: a forgotten id gives way to a word that nobody is called. Weights stay, with no name to them.
"""

import html
import io
import json
import secrets
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from google.protobuf import json_format
from tensorflow_metadata.proto.v0 import statistics_pb2 as pb

from beam_jobs.ingest.record_blocks import VALUE_LENGTH
from beam_jobs.validation.statistics import STATS, STATS_JSON
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import artifact_files, example_lists, feature_schema
from twinspire_core.contracts.forgotten_users import WITHHELD
from twinspire_core.storage import FileInfo

Users = frozenset[str]
_USER = "_user"


class UserFiles:
    """Knows the files of one pipeline that may hold ids of users.

    Attributes:
      columns: features whose values are users' ids; `_user` is one in any file.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        """Finds the features that are users' ids, whatever they are called."""
        of_events = pipeline.columns_of("events").items()
        of_users = pipeline.columns_of("users").items()
        key = pipeline.columns.users_key or pipeline.columns.user
        found = {name for name, column in of_events if column == pipeline.columns.user}
        found |= {name for name, column in of_users if column == key}
        if pipeline.user_id:
            found.add(pipeline.user_id)
        self.columns = frozenset(found)

    def without(self, file: FileInfo, users: Users) -> bytes | None:
        """The content of a file without some users; None if it holds none of them."""
        mend = self._mender(file.path)
        return mend(file.uri, users) if mend else None

    def _mender(self, path: str) -> Callable[[str, Users], bytes | None] | None:
        folder, _, name = path.rpartition("/")
        if name.endswith(".parquet"):
            return _without_rows
        if name == example_lists.FILE:
            return _without_lists
        if folder.endswith(f"/{feature_schema.REJECTED}"):
            return _without_texts
        if name == artifact_files.REPORT:
            return _without_headings
        stem, _, ending = name.partition(".")
        if folder.endswith("/tables") and ending == "arrow" and stem in self.columns:
            return _without_keys
        if folder.rpartition("/")[2] == "assets" and name in self.columns:
            return _without_tokens
        if name in (STATS, STATS_JSON):
            return self._without_values
        return None

    def _without_values(self, uri: str, users: Users) -> bytes | None:
        """A day's statistics: users among the values that are listed with their counts."""
        content = storage.read_bytes(uri)
        is_text = uri.endswith(".json")
        stats = pb.DatasetFeatureStatisticsList()
        if is_text:
            json_format.Parse(content, stats)
        else:
            stats.ParseFromString(content)
        before = stats.SerializeToString(deterministic=True)
        for feature in stats.datasets[0].features:
            if feature.path.step[0] in self.columns | {_USER}:
                _drop_listed(feature.string_stats, users)
        after = stats.SerializeToString(deterministic=True)
        if before == after:
            return None
        if is_text:
            after = json_format.MessageToJson(stats, ensure_ascii=False).encode()
        mended: bytes = after
        return mended


def _drop_listed(stats: pb.StringStatistics, users: Users) -> None:
    top = [value for value in stats.top_values if value.value not in users]
    if len(top) < len(stats.top_values):
        del stats.top_values[:]
        stats.top_values.extend(top)
    histogram = stats.rank_histogram
    buckets = [one for one in histogram.buckets if one.label not in users]
    if len(buckets) < len(histogram.buckets):
        del histogram.buckets[:]
        histogram.buckets.extend(buckets)


def _without_rows(uri: str, users: Users) -> bytes | None:
    with storage.open_bytes(uri) as opened:
        file = pq.ParquetFile(opened)
        if _USER not in file.schema_arrow.names or not file.metadata.num_rows:
            return None
        theirs = pc.is_in(file.read([_USER])[_USER], value_set=pa.array(sorted(users)))
        if not pc.any(theirs).as_py():
            return None
        rows = file.read().filter(pc.invert(theirs))
        group_rows = file.metadata.row_group(0).num_rows
        codec = file.metadata.row_group(0).column(0).compression
    sink = io.BytesIO()
    if codec == "UNCOMPRESSED":
        codec = "NONE"  # as the writer calls it
    pq.write_table(rows, sink, compression=codec, row_group_size=max(1, group_rows))
    return sink.getvalue()


def _without_keys(uri: str, users: Users) -> bytes | None:
    """A table of the training state, in which rows follow keys: theirs go, archived ones too."""
    table = pa.ipc.open_file(storage.read_bytes(uri)).read_all()
    keys = pa.array([f"={user}" for user in sorted(users)])
    theirs = pc.is_in(table["key"], value_set=keys)
    if not pc.any(theirs).as_py():
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as file:
        # Taken, and not filtered: a filter may leave the text of what it drops in the buffers
        file.write_table(table.take(pc.indices_nonzero(pc.invert(theirs))).combine_chunks())
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _without_tokens(uri: str, users: Users) -> bytes | None:
    lines = storage.read_bytes(uri).decode().split("\n")
    if users.isdisjoint(lines):
        return None
    # A vocabulary's lines are distinct, so that each gets a word of its own
    mended = [f"forgotten-{secrets.token_hex(8)}" if line in users else line for line in lines]
    return "\n".join(mended).encode()


def _without_lists(uri: str, users: Users) -> bytes | None:
    lists = example_lists.parse(storage.read_bytes(uri))
    kept = [one for one in lists if one.user not in users]
    return example_lists.dump(kept) if len(kept) < len(lists) else None


def _without_texts(uri: str, users: Users) -> bytes | None:
    """Records that were set aside: what stood there, where it holds a user, or was cut short."""
    records = [json.loads(line) for line in storage.read_bytes(uri).splitlines()]
    changed = False
    for record in records:
        text = record["value"]
        if len(text) >= VALUE_LENGTH or any(user in text for user in users):
            record["value"] = WITHHELD
            changed = True
    if not changed:
        return None
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def _without_headings(uri: str, users: Users) -> bytes | None:
    """The report of a version: whose lists it shows, as index_builder/report/page.py says it."""
    page = storage.read_bytes(uri).decode()
    mended = page
    for user in users:
        mended = mended.replace(f"<h3>User {html.escape(user)}, ", "<h3>A forgotten user, ")
    return mended.encode() if mended != page else None
