"""Numbers as people write them."""

__all__ = ["exact"]


def exact(number: float) -> str:
    """A number as people write it.

    Args:
        number: The number.

    Returns:
        As many digits as it takes to be that number.
    """
    short = f"{number:g}"
    return short if float(short) == number else repr(float(number))
