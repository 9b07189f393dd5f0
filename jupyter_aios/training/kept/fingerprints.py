"""What tells a function or class of the notebook from another one of its name in a rank.

Of what both have under a name, the rank's own runs. So whoever has mended a function in the
notebook must hear that the ranks still have the one before.
"""

from __future__ import annotations

import hashlib
from types import CodeType, FunctionType


def fingerprint(value: object) -> str:
    """Return a hash of the code of a function or class of `__main__`; nothing of all else.

    Where it stands, and in which file, is not part of it.
    """
    if getattr(value, "__module__", None) != "__main__":
        return ""
    if isinstance(value, FunctionType):
        parts = [_code(value.__code__)]
    elif isinstance(value, type):
        functions = {name: getattr(one, "__wrapped__", one) for name, one in vars(value).items()}
        parts = [
            f"{name}:{_code(one.__code__)}"
            for name, one in sorted(functions.items())
            if isinstance(one, FunctionType)
        ]
    else:
        return ""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _code(code: CodeType) -> str:
    constants = [
        _code(one) if isinstance(one, CodeType) else _constant(one) for one in code.co_consts
    ]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_flags)
    return f"{code.co_code.hex()} {names} {constants}"


def _constant(value: object) -> str:
    # The order of a set's words is another in each process.
    return str(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
