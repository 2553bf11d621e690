"""The two kinds of pixels, and of images, that an annotation has beside its classes."""

__all__ = ["UNANSWERED", "VOID"]

VOID = 255
"""Nobody shall learn here or be judged: the value in masks, the class of images of none of the classes, and the losses'
ignore index."""

UNANSWERED = 254
"""Nobody has said yet: where a mask of an image holds it, the units there wait for their labels."""
