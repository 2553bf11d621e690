"""What the doctor asks before a query, and what stops one."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Check", "DoctorError", "require"]


@dataclass(frozen=True)
class Check:
    """One question of the doctor.

    Args:
        name: What was looked at.
        found: What was found.
        passed: Whether that is well.
        remedy: What to do if not.
    """

    name: str
    found: str
    passed: bool
    remedy: str = ""


class DoctorError(ValueError):
    """A query that could not mean anything was stopped."""


def require(checks: Sequence[Check]) -> None:
    """Go on only if all is well.

    Args:
        checks: What was looked at.

    Raises:
        DoctorError: With the remedies of the checks that failed, if any did.
    """
    failed = [f"{c.name}: {c.found}; {c.remedy}" for c in checks if not c.passed]
    if failed:
        raise DoctorError(f"the query was stopped before it began: {' | '.join(failed)}")
