"""`python -m tests.recorded` records the runs anew; `git diff tests/recorded` then shows what has changed."""

import tempfile
from pathlib import Path

from tests.recorded import record

with tempfile.TemporaryDirectory() as folder:
    for run in [*record.LIVE, record.query_two_processes]:
        record.write(run.__name__, run(Path(folder)))
