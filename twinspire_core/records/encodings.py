"""Which encoding a text has, guessed from which bytes stand where."""

import codecs
import re
from collections import Counter

from twinspire_core.records.raw_files import open_text

_BLOCK = 8 << 20
_MOST = 0.9


def encoding_of(uri: str) -> str:
    """The likeliest encoding of a file: UTF-8, or that of its first part which is not."""
    with open_text(uri) as text:
        rest = b""
        while block := text.read(_BLOCK):
            whole, end, rest_of_line = (rest + block).rpartition(b"\n")
            likely = guess_encoding(whole + end or rest_of_line)
            if likely != "utf-8":
                return likely
            rest = rest_of_line if end else b""
    return guess_encoding(rest)


def first_bytes(uri: str) -> bytes:
    """The first whole lines of a file, unzipped."""
    with open_text(uri) as text:
        sample = text.read(_BLOCK)
    whole, end, _ = sample.rpartition(b"\n")
    return whole + end if end else sample


def guess_encoding(sample: bytes) -> str:
    """The likeliest encoding: UTF-8 if it fits but for stray bytes, else by which bytes stand where.

    Args:
      sample: of a text, whole lines.
    """
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if sample[1:200:2].count(0) > len(sample[1:200:2]) // 2:
        return "utf-16-le"
    text = sample.decode("utf-8", errors="replace")
    stray = text.count("\ufffd")
    if stray == 0 or 2 * stray < len(re.findall(r"[^\x00-\x7f]", text)):
        return "utf-8"
    runs = re.findall(rb"[\x80-\xff]+", sample)
    high = Counter(b"".join(runs))
    kana = high[0x82] + high[0x83]
    if 5 * kana > high.total() and decodes(sample, "shift_jis"):
        return "shift_jis"
    # Letters with accents stand among those of ASCII; words of other scripts do not.
    mixed = re.findall(rb"[A-Za-z][\x80-\xff]+|[\x80-\xff]+[A-Za-z]", sample)
    if 2 * len(mixed) > len(runs):
        return _western(sample)
    cyrillic = sum(count for byte, count in high.items() if byte >= 0xC0)
    if cyrillic > _MOST * high.total() and decodes(sample, "cp1251"):
        return "cp1251"
    return "gb18030" if decodes(sample, "gb18030") else _western(sample)


def decodes(sample: bytes, encoding: str) -> bool:
    """Whether the bytes are text of the encoding."""
    try:
        sample.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _western(sample: bytes) -> str:
    """What would be a sign within a word is a letter of Central Europe."""
    if not decodes(sample, "cp1252"):
        return "cp1250" if decodes(sample, "cp1250") else "latin-1"
    text = re.sub("[“”„‘’–—…€]", " ", sample.decode("cp1252"))
    signs = re.findall(r"(?<=[^\W\d_])[^\w\x00-\x7f]|[^\w\x00-\x7f](?=[^\W\d_])", text)
    letters = re.findall(r"[^\W\x00-\x7f]", text)
    return "cp1250" if 4 * len(signs) > len(letters) and decodes(sample, "cp1250") else "cp1252"
