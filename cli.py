"""Every verb of dropquery, and where it stands: what a verb needs is imported when it is asked for."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.command import with_command_last, with_named, with_units_last
from pipelines.error_sentences import in_one_sentence
from pipelines.plain_verbs import overview, run_plain_verb, unknown_verb
from pipelines.verbosity import VERBOSE, takes_verbose

if TYPE_CHECKING:
    from pipelines.jobs import Job

__all__ = ["EXPERIMENT_VERBS", "PLAIN_VERBS", "jobs_of", "main"]

EXPERIMENT_VERBS = {
    "start": "say what a data set holds, and list what to draw before the first fit",
    "fit": "train, and with --cycles go through active-learning cycles",
    "query": "score the pool with a trained network, and choose what to label next",
    "validate": "score a network on the validation split",
    "test": "score a network on the test split",
    "predict": "write a network's predictions of the pool as pictures",
    "pixels": "write the values of every pixel of one image",
    "ensemble": "train the members of an ensemble",
    "difficulty": "predict how hard images are to annotate, and compare the predictions with people",
    "suspects": "rank what is labelled by how likely its label is wrong",
    "study": "strategies x seeds x any settings, compared in tables and figures",
}
"""Verbs of an experiment, with model, data and trainer, which read one YAML."""

PLAIN_VERBS = {
    "init": "pipelines.init:init",
    "status": "reports.status:status",
    "label": "pipelines.labelling:label",
    "assign": "annotators.assign:assign",
    "review": "annotators.review:review",
    "report": "reports.report:report",
    "compare": "reports.difficulty:compare",
    "analyse": "reports.analyses:analyse",
    "nearest": "reports.nearest:nearest",
    "moons": "pipelines.moons:moons",
    "submit": "pipelines.submit:submit",
}
"""Verbs that need no model: functions whose typed arguments are the options and whose docstring is the help."""

REPORTS = {
    "curve": "reports.report:draw_run",
    "curve_summary": "reports.learning_curve:curve_summary",
    "curve_text": "reports.learning_curve:curve_text",
    "page": "reports.page.run_page:try_run_page",
    "difficulty": "reports.difficulty:compare",
    "mean_curves": "reports.study_table:mean_curves",
    "study": "reports.study:write_study_report",
    "study_table": "reports.study_table:read_study",
}
"""What an experiment's verbs draw when they are done: pipelines/ do not know what stands in reports/."""


def jobs_of(command: list[str], dry: bool = False) -> "list[Job]":
    """The jobs that a verb with these arguments consists of; none for a verb that is one job.

    Args:
        command: The verb and its arguments.
        dry: Whether they are only listed: nothing that stands there is removed.

    """
    from pipelines.command_line import jobs_of_experiment

    return jobs_of_experiment(command, REPORTS, dry)


def main(args: list[str] | None = None) -> None:
    """Entry point of `dropquery` and `python cli.py`: one sentence for a user's mistake, no traceback.

    Args:
        args: The command line, without the program's name; sys.argv's unless given.

    """
    if (here := str(Path.cwd())) not in sys.path:
        # a user's own classes, behind everything that is installed
        sys.path.append(here)
    verb, *rest = takes_verbose(sys.argv[1:] if args is None else args) or ["--help"]
    verbs = [*EXPERIMENT_VERBS, *PLAIN_VERBS]
    with in_one_sentence():
        if verb in ("--help", "-h"):
            print(overview(EXPERIMENT_VERBS, PLAIN_VERBS))
            sys.exit(0)
        elif verb == "submit":
            own = with_command_last(rest)
            submitted = json.loads(own[-1])
            # said here, and not by a job that has waited for its turn
            if submitted and submitted[0] not in verbs:
                sys.exit(unknown_verb(submitted[0], verbs))
            if submitted and submitted[0] in EXPERIMENT_VERBS:
                from pipelines.command_line import check_names

                check_names([word for word in submitted if word not in VERBOSE], REPORTS)
            run_plain_verb(verb, PLAIN_VERBS[verb], own, expand=jobs_of)
        elif verb in ("report", "status"):
            run_plain_verb(verb, PLAIN_VERBS[verb], with_named(rest, "--run_dir"))
        elif verb == "label":
            run_plain_verb(verb, PLAIN_VERBS[verb], with_units_last(rest))
        elif verb == "init":
            run_plain_verb(verb, PLAIN_VERBS[verb], with_named(rest, "--task"))
        elif verb in PLAIN_VERBS:
            run_plain_verb(verb, PLAIN_VERBS[verb], rest)
        elif verb in EXPERIMENT_VERBS:
            from pipelines.command_line import run_experiment_verb

            run_experiment_verb([verb, *rest], REPORTS)
        else:
            sys.exit(unknown_verb(verb, verbs))


if __name__ == "__main__":
    main()
