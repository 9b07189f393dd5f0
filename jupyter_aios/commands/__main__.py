"""`jupyter aios VERB`: the verbs in a terminal."""

from __future__ import annotations

import os
import sys

from jupyter_aios.commands.place import Place
from jupyter_aios.commands.tree import run
from jupyter_aios.errors import AiosError, InputError
from jupyter_aios.widgets.text.view import FollowInterrupt

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


def main(tokens: list[str] | None = None) -> int:
    """Do what was typed; return the exit code.

    0: done; 1: it failed, or the job did; 2: it was typed wrongly; 130: interrupted.
    """
    place = Place(prefix="jupyter aios")
    try:
        shown = run(sys.argv[1:] if tokens is None else tokens, place)
        if shown is not None:
            sys.stdout.write(f"{shown}\n")
            sys.stdout.flush()
    except FollowInterrupt as interrupt:
        sys.stderr.write("\n".join(interrupt._render_traceback_()) + "\n")
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # `jupyter aios logs mnist | head` is no fault; what is left in the buffer has no reader.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except AiosError as error:
        sys.stderr.write("\n".join(error._render_traceback_()) + "\n")
        return BAD_INPUT if isinstance(error, InputError) else FAILED
    is_bad = getattr(shown, "is_good", True) is False
    return FAILED if is_bad else 0


if __name__ == "__main__":
    sys.exit(main())
