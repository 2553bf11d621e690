"""Which value, or colour, of a mask's file is which class."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from acquisition.annotation import UNANSWERED, VOID
from datamodules.files import DataError, read_values

__all__ = ["MaskValues", "Value", "as_setting", "codes_of", "shown", "value_of"]

Value = int | tuple[int, int, int]
"""A grey value, or a colour: red, green and blue, 0 to 255 each."""

_WORDS = {"void": VOID, "unanswered": UNANSWERED}
_NOT_DRAWN = (UNANSWERED, UNANSWERED, UNANSWERED)
_UNKNOWN = -1
_MOST = 65_535
_LISTED = 8


class MaskValues:
    """The meaning of every value in mask files: classes, void, and what nobody has drawn yet.

    Grey values up to 65535 or colours; where a colour is named, all are colours, and a grey value v is the colour
    (v, v, v). What is not named is refused where it occurs, but for 254, or the colour (254, 254, 254): unless it is
    named, it is where nobody has drawn yet.

    Args:
        mapping: A grey value, or a colour as [128, 64, 128], "128,64,128" or "#804080", to a class: its index, its
            name, "void", or "unanswered" for what is not drawn yet.
        class_names: Names of the classes 0, 1, ...

    Raises:
        DataError: If a value is none or named twice, or a class is not there.

    Example:
        >>> binary = MaskValues({0: "background", 255: "cell"}, ["background", "cell"])
        >>> binary.decode(np.array([[0, 255, 254]]), "mask.png").tolist()
        [[0, 1, 254]]
    """

    def __init__(self, mapping: Mapping[Any, int | str], class_names: Sequence[str]) -> None:
        if not mapping:
            raise DataError("data.mask_values names no value; leave it out, or set it as '{0: 0, 255: 1}'")
        named: dict[Value, int] = {}
        for key, meaning in mapping.items():
            value = _value(key)
            if value in named:
                raise DataError(f"data.mask_values names {shown(value)} twice, got {key!r} again; keep one of them")
            named[value] = _class(meaning, class_names)
        self.in_colour = any(isinstance(value, tuple) for value in named)
        if self.in_colour:
            named = {_as_colour(value): meaning for value, meaning in named.items()}
            if len(named) < len(mapping):
                raise DataError("data.mask_values names a grey value and the same as a colour; keep one of them")
        self.class_names = tuple(class_names)
        self.named: Mapping[Value, int] = named
        """What was said, with colours as tuples."""
        self.undrawn: Value | None = next((v for v, k in named.items() if k == UNANSWERED), None)
        """The value of what nobody has drawn yet, if there is one."""
        free: Value = _NOT_DRAWN if self.in_colour else UNANSWERED
        if self.undrawn is None and free not in named:
            named[free], self.undrawn = UNANSWERED, free
        codes = {_code(value): meaning for value, meaning in named.items()}
        self._codes = np.array(sorted(codes), dtype=np.int64)
        self._classes = np.array([codes[code] for code in self._codes.tolist()], dtype=np.uint8)
        # by far the most masks are of 8 bits
        self._table = np.full(256 if not self.in_colour else 0, _UNKNOWN, dtype=np.int16)
        if not self.in_colour:
            small = self._codes < 256
            self._table[self._codes[small]] = self._classes[small]

    def read(self, path: Path) -> np.ndarray:
        """A mask from its file, H x W uint8: class indices, `VOID` or `UNANSWERED`.

        Args:
            path: The file.

        Raises:
            DataError: If it cannot be read, or holds a value that is not named.
        """
        return self.decode(read_values(path, self.in_colour), path)

    def decode(self, values: np.ndarray, where: str | Path) -> np.ndarray:
        """Values as they stand in a file, as classes.

        Args:
            values: H x W; or H x W x 3, colours, which may be grey ones where no colour is named.
            where: Their file, for the message.

        Returns:
            H x W, uint8.

        Raises:
            DataError: If a value is not named.
        """
        classes, known = self.lookup(values)
        if not known.all():
            raise DataError(self._not_named(values[~known], where))
        return classes

    def lookup(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The classes of values, as of `decode`, and which of the values are named, H x W bool."""
        if self.in_colour and values.ndim == 2:
            values = np.repeat(values[..., None], 3, axis=2)
        elif not self.in_colour and values.ndim == 3:
            if (values != values[..., :1]).any():
                return np.zeros(values.shape[:2], dtype=np.uint8), np.zeros(values.shape[:2], dtype=bool)
            values = values[..., 0]
        if values.dtype == np.uint8 and not self.in_colour:
            found = self._table[values]
            return found.astype(np.uint8), found != _UNKNOWN
        return self.lookup_codes(codes_of(values, self.in_colour))

    def lookup_codes(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same for numbers of `codes_of`."""
        at = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        return self._classes[at], self._codes[at] == codes

    def encode(self, mask: np.ndarray) -> np.ndarray:
        """Classes as people write them: each as the first value that was named for it.

        Args:
            mask: H x W, uint8: class indices, `VOID` or `UNANSWERED`.

        Returns:
            H x W, uint8 or uint16; or H x W x 3, uint8, where colours are named.

        Raises:
            DataError: If no value stands for a class that occurs.
        """
        first: dict[int, Value] = {}
        for value, meaning in self.named.items():
            first.setdefault(meaning, value)
        found = np.unique(mask).tolist()
        if missing := [k for k in found if k not in first]:
            word = {v: k for k, v in _WORDS.items()}.get(missing[0]) or self.class_names[missing[0]]
            raise DataError(
                f"data.mask_values has no value for {word!r}, which a mask to draw has to hold; add 'VALUE: {word}'"
            )
        wide = not self.in_colour and max(_code(first[k]) for k in found) > 255
        table = np.zeros((256, 3) if self.in_colour else 256, dtype=np.uint16 if wide else np.uint8)
        for k in found:
            table[k] = first[k]
        encoded: np.ndarray = table[mask]
        return encoded

    def then(self, seen_as: np.ndarray, class_names: Sequence[str]) -> Self:
        """The same values with other classes behind them.

        Args:
            seen_as: The new class of each old one, 256 of them, `VOID` and `UNANSWERED` included.
            class_names: Names of the new ones.
        """
        return type(self)({value: int(seen_as[k]) for value, k in self.named.items()}, class_names)

    def check_partial(self) -> None:
        """Refuse values none of which says that nobody has drawn yet, where people draw parts of images."""
        if self.undrawn is None:
            taken = _NOT_DRAWN if self.in_colour else UNANSWERED
            raise DataError(
                f"people draw parts of images here, and data.mask_values gives {shown(taken)}, which stands for what "
                "is not drawn yet, another meaning; add another value for that, 'VALUE: unanswered'"
            )

    @property
    def listed(self) -> str:
        """The values and what they mean, for people who draw."""
        words = {v: k for k, v in _WORDS.items()} | {UNANSWERED: "for what is not drawn yet"}
        return ", ".join(f"{shown(v)} {words.get(k) or self.class_names[k]}" for v, k in self.named.items())

    def _not_named(self, unknown: np.ndarray, where: str | Path) -> str:
        if unknown.ndim == 2 and not self.in_colour:
            colour = unknown[0].tolist()
            return (
                f"expected grey values in {where}, because data.mask_values names no colour, got the colour {colour}; "
                f"name colours, as '{colour}: CLASS', or save the mask in grey"
            )
        found, counts = np.unique(codes_of(unknown, self.in_colour), return_counts=True)
        most = shown(value_of(int(found[counts.argmax()]), self.in_colour))
        others = f" and {len(found) - 1} other values" if len(found) > 1 else ""
        lossy = Path(where).suffix.lower() in (".jpg", ".jpeg")
        hint = "save masks as PNG, because a JPEG changes values, or " if lossy else ""
        return (
            f"{where} holds {most} ({counts.max()} pixels){others}, which data.mask_values does not name; {hint}add "
            f"'{most}: CLASS' (one of {', '.join(self.class_names)}, or void)"
        )


def as_setting(mapping: Mapping[Value, int | str]) -> str:
    """A mapping as `data.mask_values` takes it, in YAML or on the command line.

    Args:
        mapping: Values to class indices or names.

    Example:
        >>> as_setting({0: 0, 255: 1})
        '{0: 0, 255: 1}'
        >>> as_setting({(128, 64, 128): "road"})
        '{[128, 64, 128]: road}'
    """
    return "{" + ", ".join(f"{shown(value)}: {_word(meaning)}" for value, meaning in mapping.items()) + "}"


def codes_of(values: np.ndarray, in_colour: bool) -> np.ndarray:
    """Grey values, of any shape, or colours, ... x 3, as one number each, int64."""
    wide = values.astype(np.int64)
    return (wide[..., 0] << 16) + (wide[..., 1] << 8) + wide[..., 2] if in_colour else wide


def value_of(code: int, in_colour: bool) -> Value:
    """The value that a number of `codes_of` stands for."""
    return (code >> 16, code >> 8 & 255, code & 255) if in_colour else code


def _value(key: Any) -> Value:
    """A key of the setting as a grey value or a colour."""
    if isinstance(key, int) and not isinstance(key, bool) and 0 <= key <= _MOST:
        return key
    text = str(list(key) if isinstance(key, tuple) else key).strip()
    if re.fullmatch(r"\d{1,5}", text) and int(text) <= _MOST:
        return int(text)
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:], 16)
    parts = re.fullmatch(r"[\[(]?\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*[\])]?", text)
    if parts and all(int(part) < 256 for part in parts.groups()):
        red, green, blue = map(int, parts.groups())
        return red, green, blue
    raise DataError(
        f"data.mask_values names grey values, 0 to {_MOST}, or colours, such as [128, 64, 128], '128,64,128' or "
        f"'#804080', got {key!r}; correct it"
    )


def _class(meaning: int | str, names: Sequence[str]) -> int:
    if isinstance(meaning, str):
        if meaning in names:
            return list(names).index(meaning)
        if meaning.lower() in _WORDS:
            return _WORDS[meaning.lower()]
    if str(meaning).isdecimal() and (int(meaning) < len(names) or int(meaning) in _WORDS.values()):
        return int(meaning)
    raise DataError(
        f"data.mask_values gives classes: expected one of {', '.join(names)}, or 0 to {len(names) - 1}, void or "
        f"unanswered, got {meaning!r}; correct it, or list the class in classes.txt"
    )


def _as_colour(value: Value) -> tuple[int, int, int]:
    if isinstance(value, tuple):
        return value
    if value > 255:
        raise DataError(f"data.mask_values names colours, so grey values go up to 255, got {value}; correct it")
    return value, value, value


def _code(value: Value) -> int:
    return value if isinstance(value, int) else (value[0] << 16) + (value[1] << 8) + value[2]


def shown(value: Value) -> str:
    """A grey value, or a colour as a list, as settings hold it."""
    return str(value) if isinstance(value, int) else str(list(value))


def _word(meaning: int | str) -> str:
    """A class in YAML; quoted where it would be read as something else."""
    plain = isinstance(meaning, int) or re.fullmatch(r"[A-Za-z_][\w-]*", meaning)
    special = str(meaning).lower() in ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
    return str(meaning) if plain and not special else '"' + str(meaning).replace("\\", "\\\\").replace('"', '\\"') + '"'
