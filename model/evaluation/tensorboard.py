"""TensorBoard's view of a day: the loss by step, and the measures at the day's last step.

    pip install tensorboard && tensorboard --logdir WORK_ROOT/PIPELINE

Steps count on from day to day, so that the folders of many days, side by side, are one curve. Event
files carry clock times and the host's name in themselves and in their names: no digest covers them.

TensorFlow's writer would load TensorFlow, and TensorBoard is not installed here. So the few bytes of
an event are written as they are: records of TFRecord, each an `Event` of event.proto.
"""

import socket
import struct
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from twinspire_core.contracts.day_metrics import DayMetrics

_DOUBLE, _VARINT, _BYTES, _FLOAT = 1, 0, 2, 5
"""Wire types of protocol buffers."""


def write_events(folder: Path, metrics: DayMetrics) -> None:
    """Writes an event file.

    Args:
      folder: for TensorBoard; made if absent.
      metrics: what was measured on the day.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now = time.time()
    begin = _field(1, _DOUBLE, struct.pack("<d", now))
    records = [_record(begin + _text(3, b"brain.Event:2"))]
    for tag, value, step in _scalars(metrics):
        simple = _text(1, tag.encode()) + _field(2, _FLOAT, struct.pack("<f", value))
        event = begin + _field(2, _VARINT, _varint(step)) + _text(5, _text(1, simple))
        records.append(_record(event))
    name = f"events.out.tfevents.{int(now)}.{socket.gethostname()}"
    (folder / name).write_bytes(b"".join(records))


def _scalars(metrics: DayMetrics) -> Iterator[tuple[str, float, int]]:
    """Numbers by tag and step."""
    trained = metrics.train
    for step, nats in trained.loss:
        yield "train/loss", nats, step
    for step, loss in metrics.auxiliary.curve if metrics.auxiliary else ():
        yield "train/auxiliary", loss, step
    for name, value in _measures(metrics):
        yield name, value, trained.total_steps


def _measures(metrics: DayMetrics) -> Iterator[tuple[str, float]]:
    """Numbers by tag, as `progressive/recall@50`."""
    lists = {"progressive": metrics.progressive, "held_out": metrics.holdout.candidate}
    lists |= {f"baselines/{name}": measures for name, measures in metrics.baselines.items()}
    for which, measures in lists.items():
        for name, value in measures.values.items() if measures else ():
            yield f"{which}/{name}", value


def _record(content: bytes) -> bytes:
    """A record of TFRecord."""
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def _field(number: int, kind: int, value: bytes) -> bytes:
    return _varint(number << 3 | kind) + value


def _text(number: int, value: bytes) -> bytes:
    return _field(number, _BYTES, _varint(len(value)) + value)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _checksum(content: bytes) -> bytes:
    """CRC-32C, masked as TFRecord does."""
    crc = 0xFFFFFFFF
    table = _table()
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


@cache
def _table() -> list[int]:
    """The remainder of each byte."""
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
        table.append(crc)
    return table
