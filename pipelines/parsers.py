"""jsonargparse as every verb's parser needs it."""

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader

from pipelines.settings import with_limit

__all__ = ["VerbParser"]

set_loader("yaml", with_limit(get_loader("yaml")), (yaml.YAMLError,))


class VerbParser(ArgumentParser):
    """A parser of a verb's options."""
