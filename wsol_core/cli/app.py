"""The command `wsol`: choose a preset, read the figures, predict, export.

A command imports what it needs, so that `wsol --help` answers at once.
"""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from wsol_core.core.errors import one_line_errors, stop_in_one_line
from wsol_core.core.tables import print_table
from wsol_core.export.command import app as export_app
from wsol_core.external.command import app as evaluate_app
from wsol_core.prediction.command import predict

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(export_app, name="export")
app.command()(predict)


def _preset_names() -> list[str]:
    """For the shell's completion."""
    return sorted(path.stem for path in Path("presets").glob("*.yaml"))


def _table_names() -> list[str]:
    return sorted(path.stem for path in Path("ablations").glob("*.yaml"))


@app.callback()
def wsol(context: typer.Context) -> None:
    """Image-level labels in, boxes and masks out.

    Exit codes: 0 done, 1 an error (one line says which), 2 a wrong option. `wsol --install-completion` completes
    commands, presets and tables in the shell.
    """
    context.call_on_close(stop_in_one_line())


@app.command()
def use(
    name: Annotated[
        str,
        typer.Argument(
            help="A preset: a file of presets/, without .yaml; `demo` goes back.", autocompletion=_preset_names
        ),
    ],
    root: Annotated[Path | None, typer.Option(help="The folder of the preset's data set; remembered.")] = None,
    data_set: Annotated[str, typer.Option("--set", help="Which data set --root is for.")] = "localization",
) -> None:
    """Write a preset's parameters to params.yaml.

    Example: wsol use folder --root ~/photographs
    """
    from wsol_core.configuration.presets import use as use_preset

    with one_line_errors():
        said = use_preset(name, root, data_set)
    for line in said:
        typer.echo(line, err=True)
    typer.echo(f"params.yaml is now preset {name}; `make repro` runs it")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def repro(context: typer.Context) -> None:
    """`dvc repro` with the same words, faster: stages do not import torch each, but are forked from one process.

    Example: wsol repro localize@cam
    """
    from wsol_core.core.warm_process import warm_process

    with warm_process() as environment:
        words = [sys.executable, "-m", "dvc", "repro", *context.args]
        process, code = subprocess.Popen(words, env={**os.environ, **environment}), None
        while code is None:
            with suppress(KeyboardInterrupt):  # Ctrl-C is DVC's
                code = process.wait()
    raise typer.Exit(code)


@app.command()
def results(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, figures between 0 and 1.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown tables, in percent.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Rewrite docs/results/PRESET.md of every preset.")] = False,
) -> None:
    """Print every figure of the current preset; in a pipe, lines with tabs between the columns.

    Example: wsol results --json > figures.json
    """
    from wsol_core.cli import results as found

    if as_json + markdown + write > 1:
        raise typer.BadParameter("--json, --markdown and --write exclude each other")
    with one_line_errors():
        if write:
            typer.echo(f"docs/results: {', '.join(found.write_pages()) or 'no preset with results'}")
            return
        preset, segmentation = _current()
        figures = found.read_results(preset)
        sections = found.sections(figures)
        if as_json:
            typer.echo(found.as_json(figures, segmentation))
        elif not sections:
            typer.echo(
                f"{preset}: the data set has no annotations, so there are no figures; boxes and maps are in data/"
            )
        elif markdown:
            typer.echo(found.as_markdown(figures))
        else:
            for section in sections:
                print_table(f"{preset}: {section.title}", section.header, section.rows, section.header[section.words :])


@app.command()
def dag(
    as_mermaid: Annotated[bool, typer.Option("--mermaid", help="As a flowchart in Mermaid's words.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Data sets, evaluations and pictures too.")] = False,
) -> None:
    """Show the chain that the parameters make: what each network and pseudo label is made from.

    Example: wsol dag --mermaid
    """
    with one_line_errors():
        from wsol_core.cli.dag import mermaid, read_graph, tree

        graph = read_graph(everything)
        typer.echo(mermaid(graph) if as_mermaid else "\n".join(tree(graph)))


@app.command()
def ablate(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TABLE]...", help="Files of ablations/.", autocompletion=_table_names),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="The tables that are meant for the preset in use.")] = False,
    seeds: Annotated[str, typer.Option(help="Like 0,1,2; the table's own where left out.")] = "",
    rows: Annotated[str, typer.Option(help="Like add-2,add-3; all where left out.")] = "",
    value: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for a ${NAME} of a table; repeatable.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Start; else say what is missing and how long it takes.")] = False,
) -> None:
    """Run missing rows of ablation tables as DVC experiments, with --yes; without a table list them all.

    Example: wsol ablate spol-table-2 --seeds 0,1,2 --yes
    """
    from wsol_core.ablations import command

    with one_line_errors():
        tables = command.meant_tables() if every else command.named_tables(names or [])
        if not tables:
            typer.echo("\n".join(command.lines()))
        elif command.run(tables, seeds, rows, value or [], yes, typer.echo):
            raise typer.Exit(1)


@app.command()
def inspect(
    rev: Annotated[
        list[str] | None,
        typer.Option(help="A commit, branch, tag or experiment, or `workspace`; two for side by side."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve at; the default is of this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8765,
    static: Annotated[
        Path | None, typer.Option(help="Write this folder, to be sent to somebody, and serve nothing.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="With --static: how many images at the most.")] = 200,
    address: Annotated[
        str, typer.Option("--filter", help="With --static: which images; what a page's address has after #.")
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --static: replace your own files of the same names too.")
    ] = False,
) -> None:
    """Look at images with the boxes, maps and masks of every stage, in the browser.

    Example: wsol inspect --static shown --images 20 --filter 'split=test&method=ddt&outcome=wrong'
    """
    from wsol_core.inspect.command import run

    with one_line_errors():
        typer.echo(run(host, port, rev or [], static, images, address, overwrite), err=static is None)


@app.command()
def clean() -> None:
    """Remove what stopped runs keep to go on from (WSOL_SCRATCH, .wsol), but for stages that run now.

    Example: wsol clean
    """
    with one_line_errors():
        from wsol_core.core.scratch import clean as clean_scratch

        removed = clean_scratch()
    typer.echo("\n".join(f"removed {folder}" for folder in removed) or "nothing to remove")


@app.command()
def exempt() -> None:
    """Propose the classes to exempt from a detector's filter: those that the localization set does not name.

    Example: wsol exempt
    """
    import json

    from wsol_core.data.index import read_index
    from wsol_core.proposals.exempt_classes import proposed

    with one_line_errors():
        sets = [read_index(Path("data", name, "index.parquet")) for name in ("detection", "localization")]
        found = proposed(*(index.classes for index in sets))
    for name, other in found.items():
        typer.echo(f"{name}: {'no class of that name, exempt' if other is None else f'known as {other}'}", err=True)
    unknown = [name for name, other in found.items() if other is None]
    typer.echo(
        "classes are compared by name alone; the line for the filter of a detector in params.yaml:",
        err=True,
    )
    typer.echo(f"exempt: {json.dumps(unknown, ensure_ascii=False)}")


@app.command()
def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Without the estimate, which measures for some seconds.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: findings, stages, total.")] = False,
) -> None:
    """Check machine, data and parameters, and estimate the time and disk of every stage.

    Exit code 1 where the pipeline would stop, 0 with warnings alone.

    Example: wsol doctor --quick
    """
    with one_line_errors():
        from wsol_core.doctor import command
        from wsol_core.doctor.examination import examine

        found = examine(measure=not quick)
        if as_json:
            typer.echo(command.as_json(found))
        else:
            for line in command.lines(found):
                typer.echo(line)
            if found.costs:
                print_table("Estimate", command.HEADER, command.rows(found), command.HEADER[2:])
                typer.echo(command.total(found))
    if found.failed:
        raise typer.Exit(1)


def _current() -> tuple[str, str]:
    """The preset in use, and its first network of the kind `segmentation`, or ""."""
    from wsol_core.core.params import content, preset

    name, networks = preset(), content("networks") or {}
    return name, next((name for name, entry in networks.items() if entry.get("network") == "segmentation"), "")
