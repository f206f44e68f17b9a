"""Modules that a user brings: found, identified by their source, and imported.

What a trial trains depends on such a module's code, so that its source is part of the trial's id:
the files of the module and of whatever it imports from beside it, by their content; of an installed
package its distribution and version. Nothing is imported to find that out.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import io
import logging
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from switokd.validation import SpecError, nearest

log = logging.getLogger(__name__)

DIGEST_LENGTH = 16
SOURCES = (".py", ".so", ".pyd")
LONGEST_REASON = 300
# the zoo is not hashed either: what a version of ours computes is kept by its tests
OURS = "switokd"

# what this process imported, by top-level module: its source as it was then
_imported: dict[str, str] = {}


def is_address(text: str) -> bool:
    """Whether a text is `package.module:name`; raises SpecError where it only looks like one."""
    if ":" not in text:
        return False
    module, _, name = text.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise SpecError(f"must be package.module:callable (found {text!r})")
    return True


def add_to_path(folder: Path | str) -> None:
    """Let modules in `folder` be found, after all those that are found already."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def folder_of(module: str) -> str:
    """The folder that a module's top-level package lies in. Raises SpecError."""
    top = _top(module)
    return str(_folder(_find(top), top))


def source_of(module: str) -> str:
    """What identifies a module's code: `name==version`, or 16 digits of a hash of its files.

    Raises SpecError where there is no such module, or nothing to tell its versions apart by.
    """
    top = _top(module)
    if top in sys.stdlib_module_names or top == "__main__":
        raise SpecError(
            f"{module}: must be a module with a file of its own (found "
            f"{'the running script' if top == '__main__' else 'a part of Python'})"
        )
    spec = _find(top)
    distributions = _distributions().get(top, []) if _is_installed(spec) else []
    if top == OURS:
        distributions = [OURS]
    if distributions:
        # +cpu and +cu128 are builds of the same version
        return ",".join(
            f"{name}=={version(name).partition('+')[0]}" for name in sorted(set(distributions))
        )
    digest = hashlib.sha256()
    for name, path in sorted(_files(top).items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(_read(path)).digest())
    return digest.hexdigest()[:DIGEST_LENGTH]


def to_ship(module: str) -> list[Path]:
    """The files and package folders that another machine needs for a module: its own, and those of
    what it imports from outside the installed libraries. None for an installed one.

    Raises SpecError.
    """
    top = _top(module)
    if _is_installed(_find(top)):
        return []
    return sorted({_place(_find(name.partition(":")[0])) for name in _files(top)})


def load(address: str, source: str | None = None) -> Any:
    """What `package.module:name` stands for, imported; without a name, the module.

    `source`: what `source_of` has to say of the module. Raises SpecError where it says something
    else, and for a module that cannot be imported or lacks the name.
    """
    module, _, name = address.partition(":")
    now = source_of(module)
    where = Path(folder_of(module))
    if source not in (None, now):
        raise SpecError(
            f"{module} in {where} has changed since the trial was made (its source was {source}, "
            f"and is {now}): read the experiment again, or put it back"
        )
    if _imported.get(_top(module), now) != now:
        raise SpecError(
            f"{module} in {where} has changed since this process imported it: begin a new process"
        )
    with user_code(f"{module} cannot be imported"):
        found: Any = importlib.import_module(module)
    _imported[_top(module)] = now
    for part in name.split(".") if name else ():
        if not hasattr(found, part):
            hint = nearest(part, [known for known in vars(found) if not known.startswith("_")])
            raise SpecError(f"{module} in {where} has no {name!r}{hint}")
        found = getattr(found, part)
    return found


@contextlib.contextmanager
def user_code(problem: str) -> Iterator[None]:
    """Runs code of a user's: what it prints goes to the log, what it raises becomes a SpecError."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield
    except SpecError:
        raise
    except (Exception, SystemExit) as error:
        raise SpecError(f"{problem}: {reason(error)}") from None
    finally:
        for line in printed.getvalue().splitlines():
            log.info("printed: %s", line)


def reason(error: BaseException) -> str:
    """An exception in one line: its type, its text, and the last line of code that led to it."""
    text = " ".join(str(error).split())
    if len(text) > LONGEST_REASON:
        text = f"{text[: LONGEST_REASON - 3]}..."
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames:
        return f"{type(error).__name__}: {text}"
    last = next((f for f in reversed(frames) if not _is_library(f.filename)), frames[-1])
    return f"{type(error).__name__}: {text} ({Path(last.filename).name}, line {last.lineno})"


def _top(module: str) -> str:
    return module.partition(".")[0]


def _find(top: str) -> ModuleSpec:
    spec = _spec(top)
    if spec is None:
        raise SpecError(
            f"no module {top!r}: it must lie beside the experiment file, on PYTHONPATH, or be "
            "installed"
        )
    return spec


def _spec(top: str) -> ModuleSpec | None:
    # a folder may have been written to since this process looked into it
    importlib.invalidate_caches()
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None


def _place(spec: ModuleSpec) -> Path:
    """The folder of a package, the file of a module alone."""
    return Path(next(iter(spec.submodule_search_locations or [str(spec.origin)]))).absolute()


def _folder(spec: ModuleSpec, top: str) -> Path:
    if spec.submodule_search_locations:
        return _place(spec).parent
    if spec.origin is None or not Path(spec.origin).is_file():
        raise SpecError(f"{top}: its source cannot be read (found {spec.origin or 'no file'})")
    return _place(spec).parent


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Every installed package's distributions; it takes a while to look through them all."""
    return packages_distributions()


@cache
def _library_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    installed = {*site.getsitepackages(), site.getusersitepackages()}
    installed |= {paths[kind] for kind in ("purelib", "platlib")}
    return tuple(Path(folder).resolve() for folder in installed)


def _is_installed(spec: ModuleSpec) -> bool:
    """Whether a package lies where distributions are installed; an editable one does not."""
    places = [spec.origin, *(spec.submodule_search_locations or ())]
    return any(_in_library(place) for place in places if place)


def _in_library(place: str) -> bool:
    return any(Path(place).resolve().is_relative_to(folder) for folder in _library_folders())


def _is_library(file: str) -> bool:
    return _in_library(file) or Path(file).resolve().is_relative_to(
        Path(sysconfig.get_paths()["stdlib"]).resolve()
    )


def _files(top: str) -> dict[str, Path]:
    """The files of a module and of those that it imports from outside the installed libraries."""
    found: dict[str, Path] = {}
    waiting, seen = [top], {OURS, *sys.stdlib_module_names}
    while waiting:
        name = waiting.pop()
        spec = None if name in seen else _spec(name)
        seen.add(name)
        # what is not there may be optional: where it is not, the import will say so
        if spec is None or (name != top and _is_installed(spec)):
            continue
        folder = _folder(spec, name)
        if spec.submodule_search_locations:
            roots = [Path(place) for place in spec.submodule_search_locations]
            paths = [p for root in roots for p in root.rglob("*") if p.suffix in SOURCES]
        else:
            paths = [Path(str(spec.origin))]
        for path in paths:
            found[f"{name}:{path.absolute().relative_to(folder).as_posix()}"] = path
            if path.suffix == ".py":
                waiting += _imports(path)
    return found


def _imports(path: Path) -> list[str]:
    """The top-level modules that a file imports."""
    try:
        tree = ast.parse(_read(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f", line {line}" if line else ""
        raise SpecError(f"{path}: cannot be read as Python ({error.args[0]}{where})") from None
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return [_top(name) for name in names]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
