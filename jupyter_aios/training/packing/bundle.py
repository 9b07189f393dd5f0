"""A cell, a script or a function as what a JobSpec holds of it, and the bytes that go with it."""

from __future__ import annotations
import __future__

import hashlib
import io
import re
import sys
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.entities import MIB, BlobId, Code, CodeKind, SourceFile
from jupyter_aios.core.units import format_bytes
from jupyter_aios.errors import InputError, ShippingError, UnknownNameError
from jupyter_aios.training.loading import SOURCES
from jupyter_aios.training.packing.cell import compile_cell, literal_backend, parse_cell
from jupyter_aios.training.packing.lookup import importable_from
from jupyter_aios.training.packing.names import annotation_names, annotations_in, unbound_names
from jupyter_aios.training.packing.pickling import pickled
from jupyter_aios.training.packing.shipment import SHELL_NAMES, Shipment
from jupyter_aios.training.packing.sources import Sources
from jupyter_aios.training.packing.staging import CycleError, cut, names_to_define, stage

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable, Iterable, Sequence

WARN_BYTES = 64 * MIB
ARGUMENTS = "__aios_arguments__"
FUNCTION = "__aios_function__"


@dataclass(frozen=True)
class Packed:
    """Code ready to travel."""

    code: Code
    blobs: Mapping[BlobId, bytes]
    warning: str = ""
    """Not empty where much travels: how much, and what of it is large."""
    notices: tuple[str, ...] = ()
    """What may differ from what the person expects, each in a sentence."""
    literal_backend: tuple[str, int] | None = None
    """What the code itself hands to `init_process_group`, and in which line."""


class _Blobs:
    def __init__(self) -> None:
        self.bytes: dict[BlobId, bytes] = {}

    def add(self, data: bytes) -> BlobId:
        blob = BlobId(hashlib.sha256(data).hexdigest())
        self.bytes[blob] = data
        return blob


def pack_cell(
    text: str,
    namespace: Mapping[str, object],
    *,
    name: str = "Cell",
    first_line: int = 1,
    push: Sequence[str] = (),
    theirs: Iterable[str] = (),
) -> Packed:
    """Return a cell with what it reads of the notebook's globals.

    Args:
        text: the cell's text without its magic line.
        namespace: the notebook's globals: the very dict, because functions are told by it.
        name: what a traceback calls the cell: `Cell In[3]`.
        first_line: the number of the text's first line in the cell as people see it.
        push: names that travel whether the cell reads them or not.
        theirs: names that the ranks have already; they travel only by `push`.

    Raises:
        InputError: the cell is not plain Python, or a pushed name does not exist.
        ShippingError: something that the cell reads cannot be pickled.

    Example:
        >>> packed = pack_cell("print(x)", {"x": 1})
        >>> [(entry.name, entry.how) for entry in packed.code.manifest]
        [('x', 'value')]

    """
    tree = parse_cell(text, first_line=first_line)
    for pushed in push:
        if pushed not in namespace:
            known = (key for key in namespace if not key.startswith("_") and key not in SHELL_NAMES)
            raise UnknownNameError.among("variable", pushed, known)
    code, names = compile_cell(tree), unbound_names(tree)
    types = annotation_names(*annotations_in(tree))

    def want(shipment: Shipment) -> None:
        for pushed in push:
            shipment.want(pushed, "--push")
        shipment.want_code(code, names, "the cell")
        for mentioned in sorted(types):
            shipment.want_annotation(mentioned, "the cell")

    lines = [*[""] * (first_line - 1), text.rstrip("\n"), ""]
    if first_line > 1 and namespace.get("annotations") is __future__.annotations:
        lines[0] = "from __future__ import annotations"  # as an earlier cell has said for all
    padded = "\n".join(lines)
    last = (padded, _slug(name), name, "")
    return _bundle(
        CodeKind.CELL, namespace, want, push=push, last=last, tree=tree, first_line=first_line,
        theirs=frozenset(theirs) - set(push),
    )  # fmt: skip


def pack_function(
    function: Callable[..., object],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Packed:
    """Return a function, with its arguments and with what it reads of its globals.

    Raises:
        ShippingError: the function, an argument or a global that it reads cannot be pickled.

    """
    namespace: dict[str, object] = vars(sys.modules["__main__"])
    named = str(getattr(function, "__qualname__", ""))
    is_named = namespace.get(named) is function or bool(importable_from(function))
    name = named if is_named and named.isidentifier() else FUNCTION

    def want(shipment: Shipment) -> None:
        if name == FUNCTION:
            shipment.add_value(FUNCTION, function, "the submitted function has no name of its own")
        elif namespace.get(name) is function:
            shipment.want(name, "aios.submit")
        else:
            shipment.add_import(name, function)
        shipment.add_value(ARGUMENTS, (tuple(args), dict(kwargs or {})), "the arguments")

    # The loader's last file is what was submitted; a function has been defined before it.
    last = ("\n", "call", f"{name}()", "")
    return _bundle(CodeKind.FUNCTION, namespace, want, function=name, last=last)


def pack_script(path: str | Path) -> Packed:
    """Return a script as it is; it finds its neighbours in its own folder.

    Raises:
        InputError: there is no such file, or it is not Python.

    """
    file = Path(path).expanduser()
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"the script {path} cannot be read: {error.strerror}") from None
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not Python: {error}") from None
    tree = parse_cell(text, what=file.name)
    blobs = _Blobs()
    source = SourceFile(file.name, blobs.add(text.encode()), file.name, str(file.absolute()))
    code = Code(CodeKind.SCRIPT, (source,))
    return Packed(code, blobs.bytes, literal_backend=literal_backend(tree))


def _bundle(
    kind: CodeKind,
    namespace: Mapping[str, object],
    want: Callable[[Shipment], None],
    *,
    last: tuple[str, str, str, str],
    push: Sequence[str] = (),
    function: str = "",
    tree: ast.AST | None = None,
    first_line: int = 1,
    theirs: Iterable[str] = (),
) -> Packed:
    """Close the shipment, stage it, and make files and pickles of it."""
    sources = Sources(str(namespace.get("__file__") or ""))
    by_value: set[str] = set()
    with_annotations = True
    while True:
        shipment = Shipment(namespace, sources, by_value, theirs, with_annotations=with_annotations)
        want(shipment)
        shipment.close()
        if shipment.faults and with_annotations:
            with_annotations = False  # what is only mentioned must not stand in the way
            continue
        _check(shipment, push)
        try:
            pieces = stage(shipment)
            break
        except CycleError as cycle:
            by_value.add(cycle.name)
    blobs = _Blobs()

    def deliver(names: Sequence[str]) -> BlobId | None:
        if not names:
            return None
        blob = blobs.add(pickled({name: shipment.values[name] for name in names}, shipment))
        shipment.delivered |= {id(shipment.values[name]): name for name in names}
        return blob

    early: BlobId | None = None
    files = []
    for number, piece in enumerate(pieces, start=1):
        values = deliver(piece.values)
        if number == 1:
            early, values = values, None
        label = sources.label(piece.filename)
        files.append(
            SourceFile(
                path=f"{number:03d}-{_slug(label)}.py",
                blob=blobs.add(cut(shipment, piece).encode()),
                origin=label,
                original=sources.original(piece.filename),
                definitions=names_to_define(shipment, piece),
                values=values,
            )
        )
    delivered = {name for piece in pieces for name in piece.values}
    if texts := shipment.texts():
        shipment.values[SOURCES] = texts
    values = deliver([name for name in shipment.values if name not in delivered])
    text, slug, origin, original = last
    path = f"{len(files) + 1:03d}-{slug}.py"
    files.append(SourceFile(path, blobs.add(text.encode()), origin, original))
    code = Code(
        kind=kind,
        files=tuple(files),
        imports=tuple(shipment.imports.values()),
        early_values=early,
        values=values,
        manifest=tuple(shipment.manifest.values()),
        function=function,
    )
    backend = literal_backend(tree) if tree is not None else None
    if backend is not None:
        backend = (backend[0], backend[1] + first_line - 1)
    warning = _warning(shipment, blobs.bytes)
    return Packed(code, blobs.bytes, warning, tuple(shipment.notices), backend)


def _check(shipment: Shipment, push: Sequence[str]) -> None:
    if not shipment.faults:
        return
    told = []
    for name, fault in sorted(shipment.faults.items()):
        kind = type(shipment.live[name]).__name__
        what = {ARGUMENTS: "the arguments", FUNCTION: "the function"}.get(name, f"{name} ({kind})")
        told.append(f"{what} cannot travel to the ranks: {fault}")
    is_pushed = any(name in push for name in shipment.faults)
    hint = "leave it out of --push and build it inside the cell" if is_pushed else ""
    raise ShippingError("; ".join(told), hint=hint or "build it inside the cell")


def _warning(shipment: Shipment, blobs: Mapping[BlobId, bytes]) -> str:
    total = sum(len(data) for data in blobs.values())
    if total <= WARN_BYTES:
        return ""
    large = sorted(shipment.manifest.values(), key=lambda entry: -entry.size_bytes)[:3]
    named = ", ".join(f"{entry.name} ({format_bytes(entry.size_bytes)})" for entry in large)
    return f"{format_bytes(total)} travel to the ranks; the largest: {named}"


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower().removesuffix(".py")).strip("-") or "cell"
