"""The command line: parse, one library call, print. The only room that prints, exits or reads argv."""

from __future__ import annotations

import gc
import io
import sys

import typer

from simio import __version__
from simio.cli import (
    breakeven,
    calibrate,
    compare,
    devices,
    generate,
    inspect,
    models,
    optimize,
    pack,
    predict,
    profile,
    run,
    sensitivity,
    study,
    sweep,
    validate,
)
from simio.errors import SimioError

app = typer.Typer(
    name="simio",
    help="How fast will this language model generate on that phone when its weights do not fit in RAM, "
    "and what should I change?\n\nExample: simio predict --device pixel8 --model llama-3.2-3b:q4_k_m",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("predict")(predict.predict)
app.command("sweep")(sweep.sweep)
app.command("optimize")(optimize.optimize)
app.command("compare")(compare.compare)
app.command("breakeven")(breakeven.breakeven)
app.command("sensitivity")(sensitivity.sensitivity)
app.command("inspect")(inspect.inspect)
app.command("profile")(profile.profile)
app.command("pack")(pack.pack)
app.command("unpack")(pack.unpack)
app.command("verify")(pack.verify)
app.command("generate")(generate.generate)
app.command("run")(run.run)
app.command("validate")(validate.validate)
app.command("calibrate")(calibrate.calibrate)
app.command("models")(models.models)
app.add_typer(study.app, name="study")
app.add_typer(devices.app, name="devices")


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        print(f"simio {__version__}")
        raise typer.Exit()


def main() -> None:
    """Run the command line; every error a user can cause is one message on stderr and an exit code."""
    gc.set_threshold(200_000)  # a short-lived process makes few cycles: collecting often costs 6 % of a prediction
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × or µ still gets its answer
    try:
        code = app(standalone_mode=False)
        if code == 130:
            raise KeyboardInterrupt
    except SimioError as error:
        code = _fail(error.message, error.hint, error.exit_code)
    except KeyboardInterrupt:
        code = _fail("interrupted", "run the same command again; what was kept is not done twice", 130)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = _fail(f"{where}{error.strerror or error}", "check the path, the permissions and the free space", 9)
    except Exception as error:
        code = _usage_error(error)
    sys.exit(code or 0)


def _usage_error(error: Exception) -> int:
    """Errors of the option parser become one message; anything else is a bug and keeps its traceback."""
    show = getattr(error, "format_message", None)
    if show is None:
        raise error
    if show().startswith("Usage:"):  # nothing was asked: the help
        print(show(), file=sys.stderr)
        return 2
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "simio"
    return _fail(show(), f"see `{path} --help`", 2)


def _fail(message: str, hint: str, code: int) -> int:
    print(f"simio: {message}" + (f"\n  → {hint}" if hint else ""), file=sys.stderr)
    return code
