"""Masks that mean something else than the settings say are refused, with the setting that they need."""

import logging
from collections.abc import Sequence

from acquisition.annotation import UNANSWERED, VOID
from datamodules.annotations import AnnotationSource
from datamodules.files import DataError
from datamodules.mask_values import Value, as_setting, shown
from datamodules.sources.source import Source
from datamodules.survey import MaskSurvey, survey

__all__ = ["check_masks", "check_survey"]

_log = logging.getLogger(__name__)
_LISTED = 8


def check_masks(source: Source, people: AnnotationSource | None, allow_missing: bool, max_void: float) -> None:
    """Survey masks and refuse them as `check_survey` does.

    Args:
        source: Whose masks they are.
        people: Who draws those of the train split, where people do.
        allow_missing: As of `check_survey`, like the last.
        max_void: The largest share of void.
    """
    check_survey(survey(source, people), source, allow_missing, max_void)


def check_survey(found: MaskSurvey, source: Source, allow_missing: bool, max_void: float) -> None:
    """Refuse masks that cannot be meant as they are read.

    Those with values that mean nothing, or in colour without a palette; of 0 and 255 alone, which reads as void and is
    meant as a class; and those that are nearly all void. Where every image has a mask and all were read, a class of
    classes.txt that never occurs is refused, too; elsewhere it is only named.

    Args:
        found: What was read.
        source: Whose masks they are.
        allow_missing: Whether classes may be missing.
        max_void: The largest share of void.

    Raises:
        DataError: If they are refused.
    """
    if not found.read:
        return
    if found.unknown:
        raise DataError(_unknown(found, source))
    setting = f"set data.mask_values to '{found.setting}'" if found.setting else ""
    drawn = set(found.classes) - {UNANSWERED}
    if drawn == {0, VOID} and setting:
        raise DataError(
            f"{_these(found)} hold only 0 and {VOID}, {found.first[VOID]} first, and {VOID} means void: {setting} if "
            f"{VOID} is meant as {found.class_names[1]!r}, or, if it is void, correct the masks: nothing shows another "
            "class"
        )
    if found.void_share > max_void:
        raise DataError(
            f"{found.void_share:.1%} of {_these(found)} is void (data.max_void allows {max_void:.1%}), so next to "
            f"nothing would be learned; {setting or 'correct data.mask_values or the masks'}, or set data.max_void to "
            "1 if so little is drawn on purpose"
        )
    missing = found.missing
    if not missing or source.classes_file is None:
        return
    names = ", ".join(map(repr, missing))
    if found.complete and not allow_missing and drawn - {VOID}:
        raise DataError(
            f"{source.classes_file} lists {names}, but {_these(found)} hold no pixel of that ({_listed(found)}); "
            f"{setting or 'correct classes.txt or the masks'}, or set data.allow_missing_classes to true"
        )
    if not found.complete:
        _log.info(f"No pixel of {names} in {_these(found)}.")


def _unknown(found: MaskSurvey, source: Source) -> str:
    value = found.unknown[0]
    where = found.first[value]
    names = ", ".join(found.class_names)
    if found.too_many:
        lossy = "; a JPEG changes values, so save masks as PNG" if where.suffix.lower() in (".jpg", ".jpeg") else ""
        least, *_, largest = found.pixels
        return (
            f"expected a value for each class in masks, got {shown(least)} to {shown(largest)}, {len(found.pixels)} "
            f"values and more, in {where} and others{lossy}; put images and masks into their folders, and save each "
            "class with one value"
        )
    if found.mapped:
        added = as_setting(dict.fromkeys(found.unknown[:_LISTED], "CLASS")).strip("{}")
        return (
            f"{where} holds {shown(value)} ({found.pixels[value]} pixels in all), which data.mask_values does not "
            f"name; add '{added}' (one of {names}, or void)"
        )
    if found.in_colour:
        return (
            f"expected one channel of class indices in masks, got mode RGB, {where} first, with {_listed(found)}; set "
            f"data.mask_values to '{found.setting}', with the right class for each colour"
        )
    what = f"expected mask values from 0 to {len(found.class_names) - 1}, or {VOID} for void, got {shown(value)}"
    if found.setting:
        return (
            f"{what} in {where} ({_listed(found)} in all masks); set data.mask_values to '{found.setting}', if these "
            f"are {names}, or correct the mask"
        )
    return (
        f"{what} in {where} ({_listed(found)} in all masks); correct the mask or list the class in classes.txt, or say "
        f"what each value means: set data.mask_values to '{as_setting(_to_fill(found))}'"
    )


def _to_fill(found: MaskSurvey) -> dict[Value, int | str]:
    """The values that were found, each with a place for its class; those that mean something keep it."""
    known: dict[Value, int | str] = {k: k for k in range(len(found.class_names))}
    known[VOID] = "void"
    return {v: known.get(v, "CLASS") for v in found.pixels if v != UNANSWERED}


def _these(found: MaskSurvey) -> str:
    return f"the {found.read} masks" if found.read == found.count else f"{found.read} of {found.count} masks"


def _listed(found: MaskSurvey) -> str:
    """The values that were found, or the first of them."""
    what = "colours" if found.in_colour else "values"
    values: Sequence[Value] = list(found.pixels)
    if not values:
        return f"no {what}"
    more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
    return f"the {what} {', '.join(map(shown, values[:_LISTED]))}{more}"
