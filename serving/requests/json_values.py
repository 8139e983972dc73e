"""Values in the JSON of requests: the allowed values as types for pydantic, and the messages about others.

JSON has one kind of number and no dates. So ids may be written as numbers, and 7.0 equals 7.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    PlainValidator,
    Strict,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails, core_schema
from typing_extensions import TypedDict  # pydantic needs this TypedDict below Python 3.12

from serving.version.filters import WrongFilter, condition
from twinspire_core.errors import UsageError, shorten

LARGEST_FLOAT = float(np.finfo(np.float32).max)
_OUT_OF_RANGE = ("finite_number", "greater_than_equal", "less_than_equal", "literal_error")

Schema = dict[str, Any]
_WHOLE: Schema = {"minimum": -(2**63), "maximum": 2**63}  # larger numbers lose digits


class Refused(UsageError):
    """A request that cannot be answered as it is.

    Attributes:
      row: number of the request among those that came with it, from 0.
      kind: `unknown_key`, `wrong_type`, `out_of_range` or `given_twice`.
      key: the key with the fault; None if the whole request is at fault.
      near: the known key that looks most like an unknown one.
    """

    def __init__(
        self,
        row: int,
        reason: str,
        kind: str = "wrong_type",
        key: str | None = None,
        near: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.row = row
        self.kind = kind
        self.key = key
        self.near = near


@dataclass(frozen=True, kw_only=True)
class ValueType:
    """The values that a key takes.

    Attributes:
      annotation: the type, for pydantic, which also writes its JSON schema.
      expected: the end of the message about a value of a wrong type, such as `must be a string`.
      in_range: the end of the message about a value that is too small, too large, not finite or not listed.
      entry: the type of a list's entries.
      hint: what a person may type into a form.
      read_typed: converts the text that a person typed, or returns the text if it is no such value.
    """

    annotation: Any
    expected: str
    in_range: str = ""
    entry: "ValueType | None" = None
    hint: str = "a text"
    read_typed: Callable[[str], Any] = str

    def refusal(self, key: str, value: Any, error: ErrorDetails, row: int = 0) -> Refused:
        """Why a key's value is refused, by pydantic's first error about it."""
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, WrongFilter):
            reason = f"{key} {cause}"
            if cause.attribute is None:
                return Refused(row, reason, key=key)
            return Refused(row, reason, "unknown_key", f"{key}.{cause.attribute}", cause.near)
        type_ = self
        # Pydantic's error says whether the list is wrong, or an entry of it.
        if self.entry is not None and isinstance(value, list) and error["input"] is not value:
            type_, value = self.entry, error["input"]
        # To pydantic, an integer beyond a double is no number at all.
        too_large = error["type"] == "float_type" and type(value) is int
        if too_large or error["type"] in _OUT_OF_RANGE:
            reason = f"{key} {type_.in_range}; found {shorten(value)}"
            return Refused(row, reason, "out_of_range", key)
        return Refused(row, f"{key} {type_.expected}; found {shorten(value)}", "wrong_type", key)


def typed_dict(name: str, members: dict[str, Any], config: ConfigDict) -> Any:
    """A TypedDict for pydantic, of keys that are known only when the program runs.

    Args:
      name: title in the JSON schema.
      members: the type of each key's value, for pydantic. Keys may be left out, except `Required` ones.
    """
    make: Any = TypedDict  # type checkers want literals
    made = make(name, members, total=False)
    made.__pydantic_config__ = config
    return made


def read_number(typed: str) -> int | float | str:
    """The number that a person typed, or the text itself if it is not a number."""
    for parse in (int, float):
        with suppress(ValueError):
            return parse(typed)
    return typed


def whole_number(smallest: int, largest: int, hint: str = "") -> ValueType:
    """A whole number; 7.0 is one too."""
    expected = f"must be a whole number from {smallest} to {largest}"
    bounds = Field(ge=smallest, le=largest)
    return ValueType(
        annotation=Annotated[int, Strict(), bounds, BeforeValidator(_as_integer)],
        expected=expected,
        in_range=expected,
        hint=hint,
        read_typed=read_number,
    )


def vector(size: int) -> ValueType:
    """A list of `size` numbers."""
    return ValueType(
        annotation=Annotated[
            list[NUMBER.annotation],  # type: ignore[name-defined]
            Strict(),
            Field(min_length=size, max_length=size, fail_fast=True),
        ],
        expected=f"must be a list of {size} numbers",
        entry=NUMBER,
        hint="numbers",
        read_typed=lambda typed: [read_number(part) for part in typed.replace(",", " ").split()],
    )


def texts(entry: ValueType, separator: str | None = None) -> ValueType:
    """A list of texts; with a separator, also one text that is split there."""
    # The first wrong entry is reported. Errors about thousands of others would take seconds.
    annotation: Any = Annotated[list[entry.annotation], Strict(), Field(fail_fast=True)]  # type: ignore[name-defined]
    if separator:

        def split(value: Any) -> Any:
            return value.split(separator) if isinstance(value, str) else value

        splitting = BeforeValidator(split, json_schema_input_type=annotation | str)
        annotation = Annotated[annotation, splitting]
    return ValueType(
        annotation=annotation,
        expected="must be a list of strings",
        entry=entry,
        hint="texts, with commas between",
        read_typed=lambda typed: [part.strip() for part in typed.split(",") if part.strip()],
    )


def filters(attributes: tuple[str, ...]) -> ValueType:
    """Values, or lists of values, by attribute, which become canonical JSON."""
    value: Schema = {"type": ["string", "number", "boolean"]}
    values = {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]}
    schema = {
        "type": "object",
        "properties": dict.fromkeys(attributes, values),
        "additionalProperties": False,
    }
    return ValueType(
        annotation=Annotated[
            dict[str, Any],
            Strict(),
            # Canonical, so that queries with equal filters are searched together.
            AfterValidator(partial(condition, attributes)),
            WithJsonSchema(schema),
        ],
        expected="must be an object that maps attributes to values",
    )


def _as_integer(value: Any) -> Any:
    """7 for 7.0; any other value as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_id(value: Any) -> str:
    """The text of an id that is written as a number."""
    number = _as_integer(value)
    # True is an integer in Python, and no id.
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError("is no text")
    if not -(2**63) <= number < 2**64:  # the reader of JSON has rounded a larger one
        raise ValueError("is too large")
    return str(number)


def _as_text(value: Any) -> str:
    """The text of a value that is written as another kind of value."""
    return str(value).lower() if isinstance(value, bool) else _as_id(value)


def _text(schema: Schema, convert: Callable[[Any], str] = _as_text) -> ValueType:
    # Histories are long, and nearly all ids are written as text or as a whole number of 64 bits.
    # Pydantic tries these two first, without a call of Python.
    plain = Annotated[str, Strict()]
    number = Annotated[str, GetPydanticSchema(_whole_number_as_text)]
    converted = Annotated[str, PlainValidator(convert)]
    either = plain | number | converted
    union = Annotated[either, Field(union_mode="left_to_right"), WithJsonSchema(schema)]
    return ValueType(annotation=union, expected="must be a string")


def _whole_number_as_text(_: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
    """A whole number of 64 bits as text. True and false are none."""
    number = core_schema.int_schema(strict=True, ge=-(2**63), lt=2**63)
    text = core_schema.str_schema(coerce_numbers_to_str=True)
    return core_schema.chain_schema([number, text])


_ID: Schema = {"type": ["string", "integer"], **_WHOLE}
_TEXT: Schema = {"type": ["string", "integer", "boolean"], **_WHOLE}
TEXT = _text(_TEXT)
USER_ID = _text({**_TEXT, "examples": ["u7"]})
ITEM_ID = _text({**_TEXT, "examples": ["i3"]})
ITEM_IDS = texts(ITEM_ID)
ONE_ITEM_ID = _text({**_ID, "examples": ["i3"]}, _as_id)
FLAG = ValueType(annotation=Annotated[bool, Strict()], expected="must be true or false")
NUMBER = ValueType(
    annotation=Annotated[
        float, Strict(), Field(ge=-LARGEST_FLOAT, le=LARGEST_FLOAT, allow_inf_nan=False)
    ],
    expected="must be a number",
    in_range="must be a finite number",
    hint="a number",
    read_typed=read_number,
)
SHARE = ValueType(
    annotation=Annotated[float, Strict(), Field(ge=0, le=1, allow_inf_nan=False)],
    expected="must be a number from 0 to 1",
    in_range="must be a number from 0 to 1",
    hint="0 to 1",
    read_typed=read_number,
)
