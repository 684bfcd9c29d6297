"""The command `wsol` as a user calls it."""

from typer.testing import CliRunner, Result

from wsol_core.cli.app import app


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def error(*words: object) -> str:
    """The one line that a refused command says."""
    done = run(*words)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr
