"""Types of config values: lists without repeats, seeds, hyperparameters, names; and a section."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A part of the config: closed (no unknown keys), strict (no conversion of types), frozen."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def _as_tuple(value: object) -> object:
    return tuple(value) if type(value) is list else value


def _check_unique(values: tuple[str | int, ...]) -> tuple[str | int, ...]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("unique", "each only once")
    return values


def _as_texts(value: object) -> object:
    """Return one text, or a list of texts and whole numbers, as a tuple of texts."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not values:
        raise PydanticCustomError("texts", "text, or a list of texts")
    for one in values:
        if isinstance(one, bool) or not isinstance(one, str | int):
            # YAML reads yes, no, on and off as true and false.
            raise PydanticCustomError("texts", "texts; write yes, no and numbers in quotes")
    return tuple(map(str, values))


def _check_setting(value: object, validate: Callable[[object], object]) -> object:
    """Validate the value of a hyperparameter, with one message for all its types."""
    try:
        return validate(value)
    except ValidationError:
        raise PydanticCustomError("setting", "a number or text") from None


AS_TUPLE = BeforeValidator(_as_tuple)  # a list of YAML or JSON
UNIQUE = AfterValidator(_check_unique)
IN_SCHEMA = Field(json_schema_extra={"uniqueItems": True})

Axis = Literal["protocol", "task", "weights", "rank", "seed"]
Axes = Annotated[tuple[Axis, ...], AS_TUPLE, UNIQUE, IN_SCHEMA]
Names = Annotated[tuple[str, ...], AS_TUPLE, UNIQUE, IN_SCHEMA]
Numbers = Annotated[tuple[Annotated[int, Field(ge=1)], ...], AS_TUPLE, UNIQUE, IN_SCHEMA]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Seeds = Annotated[tuple[Seed, ...], AS_TUPLE, UNIQUE, IN_SCHEMA]
Setting = Annotated[int | float | str, WrapValidator(_check_setting)]
Texts = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_texts),
    UNIQUE,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
            ]
        }
    ),
]
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
MethodName = Literal["lora", "ft", "bitfit", "adapter_houlsby", "adapter_pfeiffer", "adapter_drop"]
