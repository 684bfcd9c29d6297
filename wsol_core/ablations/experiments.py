"""DVC experiments: run one in a copy of the project, find it again, read what it holds.

A run has its own copy of the project (`dvc exp run --temp`), so that the workspace stays as it is and can be worked in
and committed meanwhile; DVC's cache is shared. Its output goes to `logs/ablations`, its checkpoints to the workspace's
scratch folder, so that a killed training goes on.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from wsol_core.core.errors import InputError

LOGS = Path("logs/ablations")


def log_of(name: str) -> Path:
    """Where the output of an experiment goes."""
    return LOGS / f"{name}.log"


def run_experiment(
    name: str, changes: Sequence[str], targets: Sequence[str], environment: Mapping[str, str] | None = None
) -> str:
    """Run an experiment, in place of one of this name on the same commit; returns the Git reference of its result.

    Args:
        name: of the experiment.
        changes: of parameters, as `-S` of `dvc exp run` takes them.
        targets: the stages that it needs.
        environment: variables beside those of this process.

    Raises:
        InputError: it failed; the message is the first line on an error.
    """
    log, settings = log_of(name), [word for each in changes for word in ("-S", each)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        if _references(name):
            _dvc(file, {}, "exp", "remove", name)
        older = _references(name)
        code = _dvc(file, environment or {}, "exp", "run", "--temp", "--name", name, *settings, *targets)
    made = _references(name) - older
    if code or not made:
        raise InputError(_complaint(log.read_text(encoding="utf-8")))
    return made.pop()


def find_experiment(name: str, commit: str) -> str | None:
    """The Git reference of an experiment that started from a commit, by its first digits; None where it is not here."""
    return next(iter(_references(name, f"{commit[:2]}/{commit[2:]}*")), None)


def read_result(reference: str, path: str) -> dict[str, Any]:
    """A JSON file that Git holds."""
    content: dict[str, Any] = json.loads(git("show", f"{reference}:{path}"))
    return content


def fetch_files(reference: str, paths: Sequence[str], folder: Path) -> None:
    """Copy files that DVC's cache holds into a folder, under their last names.

    Raises:
        InputError: a file is not in the cache.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    files = DVCFileSystem(".", rev=reference)
    for path in paths:
        try:
            files.get_file(path, str(folder / Path(path).name))
        except (OSError, DvcException) as error:
            raise InputError(f"{path} of {reference.rsplit('/', 1)[-1]} is not in DVC's cache") from error


def git(*command: str) -> str:
    """What a command of Git's prints.

    Raises:
        InputError: it failed.
    """
    done = subprocess.run(["git", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"git {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _complaint(output: str) -> str:
    """The first line on an error: the stage's own, else DVC's, else any."""
    lines = [line for start in ("error:", "ERROR:", "") for line in output.splitlines() if line.startswith(start)]
    return next((line for line in lines if line.strip()), "DVC made no experiment")


def _dvc(log: TextIO, environment: Mapping[str, str], *command: str) -> int:
    """DVC's exit code; what it starts finds this Python and the workspace's scratch folder."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    scratch = str(Path(os.environ.get("WSOL_SCRATCH", ".wsol")).resolve())
    variables = {**os.environ, "PATH": path, "WSOL_SCRATCH": scratch, **environment}
    command = (sys.executable, "-m", "dvc", *command)
    return subprocess.run(command, env=variables, stdout=log, stderr=subprocess.STDOUT, check=False).returncode


def _references(name: str, commit: str = "*/*") -> set[str]:
    """The Git references of an experiment's results: one for each commit that it started from."""
    return set(git("for-each-ref", "--format=%(refname)", f"refs/exps/{commit}/{name}").split())
