"""The command line: one function a command, each a thin layer over derivations, golden values and the oracle.

Results go to stdout, progress and errors to stderr. Exit status 0: everything holds; 1: something does not;
2: the question was wrong.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from refdiff import cli_evaluate, cli_train

Item = TypeVar("Item")


class PlainErrors(TyperGroup):
    """Bad input is one line on stderr and exit status 2; REFDIFF_TRACEBACK=1 shows where it came from."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, LookupError, ImportError, OSError) as error:
            if os.environ.get("REFDIFF_TRACEBACK"):
                raise
            typer.echo("error: " + " ".join(_message(error).split()), err=True)
            raise typer.Exit(2) from None


def _message(error: Exception) -> str:
    return (
        str(error.args[0])
        if isinstance(error, KeyError) and error.args
        else str(error) or type(error).__name__
    )


HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    cls=PlainErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=HELP,
    help="Proved formulas, a plain reference and an oracle for diffusion models.",
)
golden_app = typer.Typer(no_args_is_help=True, context_settings=HELP, help="Certified values.")
app.add_typer(golden_app, name="golden")

JsonFile = Annotated[
    str, typer.Option("--json", metavar="FILE", help="Also write the result as JSON ('-': stdout).")
]
Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Formula ids or topics; all when left out.")
]


@app.command()
def verify(
    ids: Ids = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=0, help="Processes; 0: one for each core.")] = 0,
    json_file: JsonFile = "",
) -> None:
    """Prove every formula, refute every decoy, and ask the other provers."""
    from refdiff import cli_proofs, cli_show

    chosen = cli_proofs.choose(ids or [])
    with bar("proving", len(chosen)) as advance:
        rows = cli_proofs.verified(chosen, jobs, advance)
    result: dict[str, Any] = {"summary": cli_proofs.summary(rows), "results": rows}
    finish(cli_show.verification(result), result, json_file, ok=result["summary"]["ok"])


@app.command()
def certify(
    ids: Ids = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Keep the .v files in this folder.")
    ] = None,
    json_file: JsonFile = "",
) -> None:
    """Write the Coq certificates, compile them, and say what Coq does not cover."""
    from refdiff import cli_proofs, cli_show

    chosen = cli_proofs.choose(ids or [])
    with bar("compiling", len(chosen)) as advance:
        result = cli_proofs.certified(chosen, output, advance)
    finish(cli_show.certificates(result), result, json_file, ok=result["summary"]["ok"])


@app.command()
def check(
    target: Annotated[str, typer.Argument(help="library:Name, pkg.module:attr or path/file.py:attr.")],
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="K=V", help="Option of the target.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Run only this check; may be repeated.")
    ] = None,
    xfail: Annotated[
        list[str] | None, typer.Option(metavar="ID=REASON", help="A failure that is expected.")
    ] = None,
    json_file: JsonFile = "",
) -> None:
    """Compare somebody else's code with the proved formulas and say which mistake it is."""
    from refdiff import oracle
    from refdiff.cli_target import load, named

    with busy("checking"):
        report = oracle.check(load(target, named(options or [])), only or None, named(xfail or []))
    finish(str(report), report.to_json(), json_file, ok=report.ok)


@app.command()
def derive(
    id: Annotated[str, typer.Argument(help="A formula id, as listed by 'refdiff list'.")],
    format: Annotated[
        str, typer.Option("--format", "-f", help="latex, markdown, sympy, python, numpy, torch, ...")
    ] = "markdown",
    steps: Annotated[bool, typer.Option("--steps", help="With the derivation.")] = False,
    json_file: JsonFile = "",
) -> None:
    """Write a formula, with its derivation or as code."""
    from derivations.kit.emit import emit
    from refdiff import cli_proofs

    text = emit(cli_proofs.find(id), format, steps=steps)
    finish(text, {"id": id, "format": format, "steps": steps, "text": text}, json_file)


@app.command()
def explain(id: Annotated[str, typer.Argument(help="A formula id.")], json_file: JsonFile = "") -> None:
    """Say what a formula states, where it holds, how it is proved and how it is got wrong."""
    from refdiff import cli_proofs, cli_show

    result = cli_proofs.explanation(cli_proofs.find(id))
    finish(cli_show.explanation(result), result, json_file)


@app.command("list")
def list_(topics: Ids = None, json_file: JsonFile = "") -> None:
    """List the formulas: id, title and where they are printed."""
    from refdiff import cli_proofs, cli_show

    rows = [cli_proofs.entry(formula) for formula in cli_proofs.choose(topics or [])]
    finish(cli_show.listing(rows), rows, json_file)


@golden_app.command("list")
def golden_list(json_file: JsonFile = "") -> None:
    """List the files of certified values."""
    from refdiff import cli_show, golden

    rows = golden.list_files()
    finish(cli_show.golden_files(rows), rows, json_file)


@golden_app.command("export")
def golden_export(
    topic: Annotated[str, typer.Option(help="schedule, ddpm, ddim, ...")],
    format: Annotated[str, typer.Option("--format", "-f", help="json or csv.")] = "json",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File; stdout when left out.")] = None,
    json_file: JsonFile = "",
) -> None:
    """Write one self-contained file of certified values for a program in another language."""
    from refdiff import golden

    write(golden.export(topic, format), str(output) if output else "-")
    if json_file:
        write(golden.export(topic, "json"), json_file)


@app.command("ledger")
def ledger_rows(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Rows or documents; all when left out.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=0, help="Processes; 0: one for each core.")] = 0,
    json_file: JsonFile = "",
) -> None:
    """Judge every statement of the source documents; one id shows its row in full."""
    from refdiff import cli_ledger

    chosen = cli_ledger.choose(ids or [])
    with bar("judging", len(chosen)) as advance:
        entries = cli_ledger.judged(chosen, jobs, advance)
    full = bool(ids) and all(":" in name for name in ids or [])
    text = "\n\n".join(map(cli_ledger.one, entries)) if full else cli_ledger.shown(entries)
    finish(text, entries, json_file, ok=cli_ledger.summary(entries)["ok"])


@app.command()
def errata(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Rows or documents; all when left out.")
    ] = None,
    json_file: JsonFile = "",
) -> None:
    """Print what is false in the source documents, as a letter in Markdown that an author could be sent."""
    from refdiff import cli_ledger

    chosen = [row for row in cli_ledger.choose(ids or []) if row.check.finds_errata]
    with bar("judging", len(chosen)) as advance:
        entries = cli_ledger.judged(chosen, 0, advance)
    ok = all(entry["verdict"] == "erratum" for entry in entries)
    finish(cli_ledger.letter(entries), entries, json_file, ok=ok)


@golden_app.command("check")
def golden_check(json_file: JsonFile = "") -> None:
    """Generate every certified value anew and compare byte for byte."""
    from refdiff import cli_show, golden

    result = golden.check(progress)
    finish(cli_show.golden_checked(result), result, json_file, ok=result["summary"]["ok"])


def finish(text: str, result: Any, json_file: str, *, ok: bool = True) -> None:
    """Print the result, write it as JSON where asked, and exit 1 when something does not hold."""
    if json_file != "-":
        typer.echo(text.rstrip("\n"))
    if json_file:
        write(json.dumps(result, indent=2, ensure_ascii=False, sort_keys=False) + "\n", json_file)
    if not ok:
        raise typer.Exit(1)


def write(text: str, file: str) -> None:
    """To a file, or to stdout for '-'."""
    if file == "-":
        sys.stdout.write(text)
    else:
        Path(file).write_text(text, encoding="utf-8")


def busy(label: str) -> AbstractContextManager[Any]:
    """A sign of life on stderr when that is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    return console.status(label) if console.is_terminal else nullcontext()


@contextmanager
def bar(label: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr when that is a terminal; call what it gives after each unit of work."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(label, total=total)
        yield lambda: shown.advance(task)


def progress(items: Iterable[Item], label: str) -> Iterator[Item]:
    """The items, one step of the bar each."""
    work = list(items)
    with bar(label, len(work)) as advance:
        for item in work:
            yield item
            advance()


app.command()(cli_train.train)
app.command()(cli_train.sample)
app.command()(cli_evaluate.evaluate)
