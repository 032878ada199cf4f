"""Every failure as one sentence and an exit code: 2 for wrong input, 1 for what the world did.

A traceback is for whoever sets RRAMHIL_DEBUG=1. Nothing here imports the contract before
there is an error to explain, because `--help` must not import numpy.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from pydantic import BaseModel

from rramhil.words import nearest

WRONG_INPUT = 2
FAILED = 1
STOPPED = 130

_REMEDIES = {
    errno.ENOSPC: "free some space, or set RRAMHIL_HOME to a folder on another disk",
    errno.EDQUOT: "free some space, or set RRAMHIL_HOME to a folder on another disk",
    errno.EACCES: "name a folder that you may write to (RRAMHIL_HOME moves runs and ledgers)",
    errno.EPERM: "name a folder that you may write to (RRAMHIL_HOME moves runs and ledgers)",
    errno.EROFS: "name a folder that you may write to (RRAMHIL_HOME moves runs and ledgers)",
}


class UsageError(ValueError):
    """What was typed is wrong; the message is one sentence with a remedy."""


class Interrupted(Exception):
    """Somebody pressed Ctrl-C twice; the note is the command that goes on."""


class Underway(Exception):
    """What is wrong (the cause) showed itself after something was sent: no mere wrong input."""


class Failure(BaseModel):
    """What `--json` prints under the key "error"."""

    kind: str
    message: str
    exit_code: int
    doubtful_cells: int = 0
    remedy: str | None = None


def debugging() -> bool:
    """Whether tracebacks were asked for."""
    return os.environ.get("RRAMHIL_DEBUG", "") not in ("", "0")


def explain(error: BaseException) -> Failure:
    """The one sentence, the exit code and the remedy (the error's notes), for any error.

    A note is a command without a word around it: `--json` gives it to scripts.
    """
    notes = " ".join(getattr(error, "__notes__", []))
    return _explain(error).model_copy(update={"remedy": notes or None})


def _explain(error: BaseException) -> Failure:
    kind = type(error).__name__
    if isinstance(error, Underway) and error.__cause__ is not None:
        return _explain(error.__cause__).model_copy(update={"exit_code": FAILED})
    if hasattr(error, "format_message"):
        return Failure(kind="UsageError", message=_usage(error), exit_code=WRONG_INPUT)
    if isinstance(error, OSError):
        return Failure(kind=kind, message=_system(error), exit_code=FAILED)
    message = " ".join(str(error).split())
    if isinstance(error, Interrupted):
        return Failure(kind=kind, message=message, exit_code=STOPPED)
    if isinstance(error, ValueError):
        code = FAILED if _the_disk_said_no(error) else WRONG_INPUT
        return Failure(kind=kind, message=message, exit_code=code)

    from rramhil.device import DeviceError

    if isinstance(error, DeviceError):
        doubtful = int(error.maybe.size)
        if doubtful:
            cells = "1 cell was" if doubtful == 1 else f"{doubtful} cells were"
            message += f" ({cells} possibly pulsed; the next run on this die reads them first)"
        code = WRONG_INPUT if _is_about_the_request(error) else FAILED
        return Failure(kind=kind, message=message, exit_code=code, doubtful_cells=doubtful)
    if type(error).__module__.partition(".")[0].startswith("rramhil") and message:
        return Failure(kind=kind, message=message, exit_code=FAILED)
    return Failure(
        kind=kind,
        message=f"rramhil itself failed ({kind}: {message or 'no text'}); "
        "set RRAMHIL_DEBUG=1 to see where, and report it",
        exit_code=FAILED,
    )


def _the_disk_said_no(error: BaseException) -> bool:
    """Whether a folder that cannot be made or written lies behind `error`, not a wrong name."""
    behind = error.__context__
    wrong_name = isinstance(behind, (FileNotFoundError, IsADirectoryError))
    return isinstance(behind, OSError) and not wrong_name


def _is_about_the_request(error: BaseException) -> bool:
    """Whether a device refused what was asked for, so that the request must change.

    A ledger that cannot be read or written, and a record that a replay departs from, are refused
    in the same class, because nothing was sent; but asking otherwise helps against neither. A
    ledger that another process has is like a die that it has: ask for another, or wait.
    """
    from rramhil.device import Refused
    from rramhil.ledger import LedgerError
    from rramhil.replay import Departed

    in_use = isinstance(error.__context__, TimeoutError)
    of_the_world = isinstance(error, Departed) or (isinstance(error, LedgerError) and not in_use)
    return isinstance(error, Refused) and not of_the_world


def _system(error: OSError) -> str:
    what = error.strerror or str(error) or type(error).__name__
    named = f"{error.filename}: " if error.filename else ""
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{named}{what[:1].lower()}{what[1:]}" + (f"; {remedy}" if remedy else "")


def _usage(error: Any) -> str:
    """A complaint of the command-line parser in our form: what is wrong, and what to do."""
    option = getattr(error, "option_name", None)
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoSuchOption" and option and context is not None:
        known = [o for p in context.command.params for o in p.opts if o.startswith("--")]
        return f"{context.command_path} has no option {option!r}{nearest(option, known)}"
    if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
        return f"{context.command_path} needs a command; see '{context.command_path} --help'"
    text = " ".join(str(error.format_message()).split()).rstrip(".")
    see = f"; see '{context.command_path} --help'" if context is not None else ""
    return f"{text[:1].lower()}{text[1:]}{see}"
