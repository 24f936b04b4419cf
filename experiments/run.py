"""Run a declared experiment.

    python -m experiments.run NAME | FILE.py | SWEEP.yaml [--smoke] [--data DIR] [--resume | --fresh] …

Heavy libraries are imported only once a search really starts: ``--help``, ``--list`` and ``--plan`` answer at once.
"""

import json
import sys
from collections.abc import Sequence

import search_spaces
from experiments.credentials import hidden_in_messages, off_the_process_list
from experiments.options import RunOptions, build_parser, options_of
from satdet._cli import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments`; returns the exit status."""
    parsed = build_parser().parse_args(arguments)
    if arguments is None:
        off_the_process_list(parsed.tracking_uri)
    outcome = [0]

    def command() -> None:
        if parsed.list:
            _list()
        else:
            outcome[0] = _run(options_of(parsed))

    with hidden_in_messages(parsed.tracking_uri):
        return run_command(command, debug=parsed.debug) or outcome[0]


def _list() -> None:
    for name in search_spaces.names():
        sys.stdout.write(f"{name:24s} {search_spaces.load(name).question}\n")


def _run(options: RunOptions) -> int:
    if options.plan:
        from experiments.paths import storage_paths
        from experiments.plan import print_plan

        declaration = search_spaces.declaration(options.experiment)
        experiment = options.applied_to(declaration.experiment)
        print_plan(declaration, experiment, options, storage_paths(options.storage))
        return 0
    from experiments.compare import render
    from experiments.search import exit_status, run_search

    summary = run_search(options)
    status = exit_status(summary)
    if options.json:
        sys.stdout.write(json.dumps(summary, indent=1) + "\n")
    else:
        sys.stdout.write(render([summary], "table"))
    for trial in summary["trials"]:
        if trial["status"] == "failed":
            sys.stderr.write(f"{trial['id']} failed: {trial['error']}; see {trial['directory']}\n")
    again = f"python -m experiments.run {options.experiment} --resume"
    where = "" if options.storage == "runs" else f" --storage {options.storage}"
    if status == 130:
        sys.stderr.write(f"interrupted; nothing is lost, resume with: {again}{where}\n")
    elif not options.json:
        compare = f"python -m experiments.compare {summary['search']}{where}"
        sys.stdout.write(f"\nlook further: make ui (MLflow on this machine), {compare}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
