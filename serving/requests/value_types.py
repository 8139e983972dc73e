"""What the values of a request may be: a type for pydantic, its JSON schema, and what to say of
another value.

JSON has one kind of number and no dates, so ids may be written as numbers, and 7.0 is as good as 7.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    PlainValidator,
    Strict,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails, core_schema
from typing_extensions import TypedDict  # pydantic takes no other one below Python 3.12

from twinspire_core.errors import shorten

LARGEST_FLOAT = float(np.finfo(np.float32).max)
_OUT_OF_RANGE = ("finite_number", "greater_than_equal", "less_than_equal")

Schema = dict[str, Any]
_WHOLE: Schema = {"minimum": -(2**63), "maximum": 2**63}  # larger numbers lose digits


class WrongValue(ValueError):
    """A value that its key does not take; the message is the end of a sentence.

    Attributes:
      kind: `wrong_type`, or `out_of_range` where only its size is wrong.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, kw_only=True)
class ValueType:
    """What a value may be.

    Attributes:
      annotation: its type for pydantic, which also writes the JSON schema.
      expected: the end of a sentence about a value of another type, such as `is text`.
      in_range: the same about one that is too small, too large or not finite.
      entry: what the entries of a list may be.
      size: how many entries a list has; None is any number.
      hint: what a person may type.
      read_typed: makes a value of what a person typed; what is no value stays as it was typed.
    """

    annotation: Any
    expected: str
    in_range: str = ""
    entry: "ValueType | None" = None
    size: int | None = None
    hint: str = "a text"
    read_typed: Callable[[str], Any] = str

    def check(self, value: Any) -> Any:
        """The value as rows of requests hold it.

        Raises:
          WrongValue: it is something else.
        """
        try:
            return self._adapter.validate_python(value)
        except ValidationError as e:
            raise self._explain(value, e.errors()[0]) from e

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.annotation)

    def _explain(self, value: Any, error: ErrorDetails) -> WrongValue:
        if self.entry is not None and isinstance(value, list) and self.size in (None, len(value)):
            return self.entry._explain(error["input"], error)
        # Pydantic does not take an integer beyond a double for a number.
        too_large = error["type"] == "float_type" and type(value) is int
        if too_large or error["type"] in _OUT_OF_RANGE:
            return WrongValue("out_of_range", f"{self.in_range}, found {shorten(value)}")
        return WrongValue("wrong_type", f"{self.expected}, found {shorten(value)}")


def typed_dict(name: str, members: dict[str, Any], config: ConfigDict, total: bool = True) -> Any:
    """A dict for pydantic, whose keys and their types are known only when the program runs.

    Args:
      name: its title.
      members: types by key.
      config: pydantic's.
      total: whether every key must be there.
    """
    make: Any = TypedDict  # type checkers want literals
    made = make(name, members, total=total)
    made.__pydantic_config__ = config
    return made


def read_number(typed: str) -> int | float | str:
    """The number that a person typed, or what was typed if it is none."""
    for parse in (int, float):
        try:
            return parse(typed)
        except ValueError:
            continue
    return typed


def _as_text(value: Any, info: ValidationInfo) -> str:
    """The text of what is not plain text."""
    if isinstance(value, str):
        return value  # it holds half a surrogate pair: `Requests.lay_out` says so
    if isinstance(value, bool):
        return str(value).lower()
    return _as_id(value, info)


def _as_id(value: Any, info: ValidationInfo) -> str:
    """The id that was written as a number."""
    number = _as_integer(value)
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError("is no text")
    # A larger float has lost digits; so would a larger integer of a body, in orjson, which has the
    # last word about what is refused here.
    exact = isinstance(value, int) and info.mode == "python"
    if not exact and not -(2**63) <= number < 2**64:
        raise ValueError("is too large")
    return str(number)


def _as_integer(value: Any) -> Any:
    """The integer that 7.0 is; any other value stays as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def whole_number(smallest: int, largest: int, hint: str = "") -> ValueType:
    """A whole number; 7.0 is one too."""
    expected = f"is a whole number from {smallest} to {largest}"
    bounds = Field(ge=smallest, le=largest)
    return ValueType(
        annotation=Annotated[int, Strict(), bounds, BeforeValidator(_as_integer)],
        expected=expected,
        in_range=expected,
        hint=hint,
        read_typed=read_number,
    )


def _text(schema: Schema, convert: Callable[[Any, ValidationInfo], str] = _as_text) -> ValueType:
    # Nearly every text is written as one, or as a whole number: what pydantic takes first costs no
    # call of Python, and histories are long.
    plain = Annotated[str, Strict()]
    number = Annotated[str, GetPydanticSchema(_whole_number_as_text)]
    other = Annotated[str, PlainValidator(convert)]
    either = plain | number | other
    union = Annotated[either, Field(union_mode="left_to_right"), WithJsonSchema(schema)]
    return ValueType(annotation=union, expected="is text")


def _whole_number_as_text(_: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
    """A whole number of 64 bits as text; true and false are none."""
    number = core_schema.int_schema(strict=True, ge=-(2**63), lt=2**63)
    text = core_schema.str_schema(coerce_numbers_to_str=True)
    return core_schema.chain_schema([number, text])


def _list_of(entry: ValueType, separator: str | None = None) -> ValueType:
    # The first wrong entry is told, and nothing is said of thousands of others.
    annotation: Any = Annotated[list[entry.annotation], Strict(), Field(fail_fast=True)]  # type: ignore[name-defined]
    if separator:

        def cut(value: Any) -> Any:
            return value.split(separator) if isinstance(value, str) else value

        cutting = BeforeValidator(cut, json_schema_input_type=annotation | str)
        annotation = Annotated[annotation, cutting]
    return ValueType(
        annotation=annotation,
        expected="is a list of text",
        entry=entry,
        hint="texts, with commas between",
        read_typed=lambda typed: [part.strip() for part in typed.split(",") if part.strip()],
    )


def vector(size: int) -> ValueType:
    """A list of so many numbers."""
    return ValueType(
        annotation=Annotated[
            list[NUMBER.annotation],  # type: ignore[name-defined]
            Strict(),
            Field(min_length=size, max_length=size, fail_fast=True),
        ],
        expected=f"is a list of {size} numbers",
        entry=NUMBER,
        size=size,
        hint="numbers",
        read_typed=lambda typed: [read_number(part) for part in typed.replace(",", " ").split()],
    )


def categories(separator: str | None) -> ValueType:
    """A list of texts; with a separator, also one text that is cut there."""
    return _list_of(TEXT, separator)


def filters(attributes: tuple[str, ...]) -> ValueType:
    """Values, or lists of values, by attribute; serving/version/filters.py checks what they are."""
    one: Schema = {"type": ["string", "number", "boolean"]}
    values = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}
    schema = {
        "type": "object",
        "properties": dict.fromkeys(attributes, values),
        "additionalProperties": False,
    }
    return ValueType(
        annotation=Annotated[dict[str, Any], Strict(), WithJsonSchema(schema)],
        expected="is an object with values by attribute",
    )


_ID: Schema = {"type": ["string", "integer"], **_WHOLE}
TEXT = _text({"type": ["string", "integer", "boolean"], **_WHOLE})
USER_ID = _text({**_ID, "examples": ["u7"]})
ITEM_ID = _text({**_ID, "examples": ["i3"]})
ITEM_IDS = _list_of(ITEM_ID)
ONE_ITEM_ID = _text({**_ID, "examples": ["i3"]}, _as_id)
FLAG = ValueType(annotation=Annotated[bool, Strict()], expected="is true or false")
NUMBER = ValueType(
    annotation=Annotated[
        float, Strict(), Field(ge=-LARGEST_FLOAT, le=LARGEST_FLOAT, allow_inf_nan=False)
    ],
    expected="is a number",
    in_range="is a finite number",
    hint="a number",
    read_typed=read_number,
)
SHARE = ValueType(
    annotation=Annotated[float, Strict(), Field(ge=0, le=1, allow_inf_nan=False)],
    expected="is a number from 0 to 1",
    in_range="is a number from 0 to 1",
    hint="0 to 1",
    read_typed=read_number,
)
