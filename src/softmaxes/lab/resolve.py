"""Parts of the user's own: a head, a backbone, a data set or a study, by the name of a Python object or as one.

A name is ``module:object``, as the standard library's `pkgutil.resolve_name` takes it. The module is imported by the
command and by every process that trains. An object that no other process could import, as one of a notebook, is sent
there by cloudpickle.
"""

import ast
import hashlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from traceback import walk_tb
from types import CodeType
from typing import Any

from softmaxes import __version__
from softmaxes.files import InputError
from softmaxes.lab.records import Own
from softmaxes.names import printable

NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")
SHOWN = 200  # characters of an error in a module of the user's own

_given: dict[str, Any] = {}  # objects that have no importable name


def is_own(name: str) -> bool:
    """Whether a name is that of a Python object, ``module:object``, or of an object that was given."""
    return name in _given or NAME.fullmatch(name) is not None


def unknown(option: str, name: str, known: Iterable[str], also: str = "module:function") -> InputError:
    """The error of a name that nothing has, with the nearest one that something has."""
    names = list(known)
    every = f"{', '.join(names)}, or {also}"
    if "," in name and all(part in names for part in name.split(",")):
        hint = f"separate names by spaces: {' '.join(name.split(','))}"
    elif near := get_close_matches(name, names, 1):
        hint = f"did you mean {near[0]}? There are {every}"
    else:
        return InputError(f"{option}: expected one of {every}, got {name}.")
    return InputError(f"{option}: expected a name that is known, got {name}; {hint}.")


def told(error: BaseException) -> str:
    """What went wrong in code of the user's own, as a part of a line."""
    return printable(" ".join(f"{type(error).__name__}: {error}".split()), SHOWN)


def place(error: BaseException) -> str:
    """Where the user's own code failed, as " (FILE, line 3)"; nothing where it has no source."""
    ours, installed = Path(__file__).parents[1], [Path(sysconfig.get_path(name)) for name in ("purelib", "stdlib")]
    called = [(Path(frame.f_code.co_filename), line) for frame, line in walk_tb(error.__traceback__)]
    there = [(file, line) for file, line in called if file.is_file() and ours not in file.parents]
    own = [one for one in there if not any(folder in one[0].parents for folder in installed)] or there[:1]
    return "" if not own else f" ({printable(own[-1][0].name)}, line {own[-1][1]})"


def resolve(option: str, name: str) -> Any:
    """The object of a name.

    Args:
        option: what the error begins with.
        name: ``module:object``.

    Raises:
        InputError: there is no such module or object, or its module fails when it is imported.
    """
    if name in _given:
        return _given[name]
    _search_here()
    try:
        return pkgutil.resolve_name(name)
    except (Exception, SystemExit) as error:
        top, hint = name.partition(":")[0].partition(".")[0], ""
        if isinstance(error, ModuleNotFoundError) and error.name == top:
            hint = f"; run it in the folder of {top}.py, or add that folder to PYTHONPATH"
        raise InputError(
            f"{option}: expected the name of a Python object, module:object, got {name} ({told(error)}){hint}."
        ) from None


def _search_here() -> None:
    """Let modules in the folder of the command be found, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def give(option: str, part: object, name: str | None = None) -> str:
    """The name by which a part is known from now on, here and in the processes that train.

    Args:
        option: what an error begins with.
        part: a function, a class, or whatever the option takes.
        name: the user's own name for it; that of the object if not given.

    Raises:
        InputError: the object has no name of its own, and none was given.
    """
    module, qualified = getattr(part, "__module__", None), getattr(part, "__qualname__", None)
    known = f"{module}:{qualified}" if module and qualified else None
    if name is None and known is not None and NAME.fullmatch(known) and module != "__main__":
        try:
            if pkgutil.resolve_name(known) is part:
                return known
        except (ImportError, AttributeError):
            pass
    if name is None and (qualified is None or "<" in qualified):
        raise InputError(f"{option}: expected a part with a name, got {part!r}; give it one: {{name: part}}.")
    chosen = name or str(qualified)
    _given[chosen] = part
    return chosen


def own(option: str, name: str) -> Own:
    """What is kept of a part of the user's own: its name and a hash of its source text."""
    return Own(option=option, name=name, source=text_hash(source_files(option, name)))


def check_unchanged(parts: Iterable[Own]) -> None:
    """Refuse modules whose source is not what it was where the run was made, as on another machine of a cluster."""
    for part in parts:
        if part.name in _given:  # it came from there
            continue
        now = own(part.option, part.name)
        if now.source != part.source:
            raise InputError(f"{part.option}: expected {part.name} with source {part.source}, got {now.source}.")


def packed(names: Iterable[str]) -> tuple[bytes, list[str]]:
    """What another process needs to `receive`: the objects without importable names, and where modules are found."""
    import cloudpickle

    given = {name: _given[name] for name in names if name in _given}
    try:
        content = cloudpickle.dumps(given)  # all at once: what two parts share stays one
    except Exception as error:
        raise InputError(
            f"{', '.join(given)}: expected a part that can be sent to another process, got {told(error)}."
        ) from None
    return content, list(sys.path)


def receive(content: bytes, path: Sequence[str]) -> None:
    """Know what `packed` packed, in a process that trains."""
    import cloudpickle

    sys.path += [folder for folder in path if folder not in sys.path]
    _given.update(cloudpickle.loads(content))


# Source text


def source_files(option: str, name: str) -> dict[str, str]:
    """The source text that a part is made of, by module: its own, and all that it imports of the same project.

    The same project are the modules of its own package; of a lone file those beside it. What is installed elsewhere
    is not followed. Of what has no file, as a class of a notebook, it is the text of the object, or its compiled code.

    Raises:
        InputError: there is no source text.
    """
    found: dict[str, str] = {}
    _search_here()
    if name not in _given:
        _follow(name.partition(":")[0], found)
    for piece in _pieces(_given[name], set()) if name in _given else ():
        module = str(piece.__module__)
        if module.partition(".")[0] == "softmaxes":
            found.setdefault("softmaxes", __version__)
        elif _file(module) is not None:
            _follow(module, found)
        else:
            found[f"{module}:{piece.__qualname__}"] = _text(piece)
    if name in _given:
        home = _home(_given[name])
        if values := _values(_given[name], home, set()):
            found[f"values of {name}"] = "\n".join(values)
    if not found and name not in _given:
        resolve(option, name)  # says why there is none
    if not found:
        raise InputError(f"{option}: expected a part with Python source, got {name}, which has none.")
    return found


def _follow(start: str, found: dict[str, str]) -> None:
    """Add the source text of a module, and of all that it imports of its project."""
    waiting = [start]
    while waiting:
        known = waiting.pop()
        file = _file(known)
        if known in found or file is None:
            continue
        found[known] = file.read_text(encoding="utf-8", errors="replace")
        waiting += [other for other in _imported(known, found[known]) if _same_project(start, other)]


def _pieces(part: Any, seen: set[int]) -> list[Any]:
    """The functions and classes that an object is made of: fields, arguments, and what functions have closed over."""
    if id(part) in seen:
        return []
    seen.add(id(part))
    inner: Iterable[Any] = ()
    if inspect.isfunction(part):
        inner = [cell.cell_contents for cell in part.__closure__ or () if callable(cell.cell_contents)]
    elif isinstance(part, partial):
        inner = (part.func, *part.args, *part.keywords.values())
    elif isinstance(part, tuple):
        inner = part
    elif hasattr(part, "__dict__") and not inspect.isclass(part):
        inner = vars(part).values()
    own = [part] if inspect.isroutine(part) or inspect.isclass(part) else [type(part)] if callable(part) else []
    return own + [piece for one in inner for piece in _pieces(one, seen)]


def _values(part: Any, home: str, seen: set[int]) -> list[str]:
    """The numbers, texts and arrays that an object has beside its source text: arguments, fields, what it closes over.

    Of the names of its module those that its functions use. What comes from another project than home is passed over.
    """
    if part is None or isinstance(part, int | float | complex | str | bytes | Path):
        return [repr(part)]
    if id(part) in seen:
        return []
    seen.add(id(part))
    if (content := _array(part)) is not None:
        return [content]
    inner: Iterable[Any] = ()
    if isinstance(part, partial):
        inner = (part.func, part.args, part.keywords)
    elif isinstance(part, dict):
        inner = [one for pair in sorted(part.items(), key=repr) for one in pair]
    elif isinstance(part, set | frozenset):
        inner = sorted(part, key=repr)
    elif isinstance(part, tuple | list):
        inner = part
    elif str(getattr(part, "__module__", None)).partition(".")[0] != home:
        return []
    elif inspect.isfunction(part):
        used = inspect.getclosurevars(part)
        inner = (part.__defaults__, part.__kwdefaults__, dict(used.nonlocals), dict(used.globals))
    elif hasattr(part, "__dict__"):
        fields = sorted(vars(part).items())
        inner = [value for name, value in fields if not name.startswith("__") or inspect.isfunction(value)]
        inner = inner if inspect.isclass(part) else [type(part), *inner]
    return [text for one in inner for text in _values(one, home, seen)]


def _home(part: Any) -> str:
    """The project of an object's first function or class that is not ours."""
    modules = [str(piece.__module__).partition(".")[0] for piece in _pieces(part, set())]
    others = {"softmaxes", "torch", *sys.stdlib_module_names} - {"__main__"}
    return next((module for module in modules if module not in others), "__main__")


def _array(part: Any) -> str | None:
    """A hash of a tensor or an array; none of anything else."""
    torch, numpy = (sys.modules.get(name) for name in ("torch", "numpy"))
    if torch is not None and isinstance(part, torch.Tensor):
        content = part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    elif numpy is not None and isinstance(part, numpy.ndarray):
        content = part
    else:
        return None
    return f"{part.dtype} {tuple(part.shape)} {hashlib.sha256(content.tobytes()).hexdigest()}"


def _text(piece: Any) -> str:
    """The source text of a function or class; its compiled code where there is none."""
    try:
        return inspect.getsource(piece)
    except (OSError, TypeError):
        functions = vars(piece).values() if inspect.isclass(piece) else (piece,)
        return "".join(_compiled(one.__code__) for one in functions if inspect.isfunction(one))


def _compiled(code: CodeType) -> str:
    constants = [_compiled(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return repr((code.co_code.hex(), code.co_names, code.co_varnames, constants))


def text_hash(files: Mapping[str, str]) -> str:
    """Sixteen hexadecimal digits of source text, by module."""
    digest = hashlib.sha256()
    for module, text in sorted(files.items()):
        digest.update(f"{module}\0{text}\0".encode())
    return digest.hexdigest()[:16]


def _file(module: str) -> Path | None:
    """The .py file of a module, without importing more than its packages; of a script that runs its own."""
    if module == "__main__":
        file = getattr(sys.modules[module], "__file__", None)
        return Path(file) if file is not None and file.endswith(".py") else None
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def _imported(module: str, text: str) -> list[str]:
    """The modules that a module imports, each with those above it."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return []
    file = _file(module)
    package = module if file is not None and file.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            above = ".".join([*base, *([node.module] if node.module else [])])
            names += [above, *(f"{above}.{alias.name}" for alias in node.names)]
    return [name.rpartition(".")[0] or name for name in names] + names


def _same_project(start: str, other: str) -> bool:
    top = start.partition(".")[0]
    if other.partition(".")[0] == top:
        return True
    first, second = _file(start), _file(other)
    if "." in start or first is None or second is None:
        return False
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}
    return first.parent.resolve() == second.parent.resolve() and first.parent.resolve() not in installed


def made_by(option: str, name: str, part: Callable[..., Any], *arguments: object) -> Any:
    """What a function of the user's own gives; whatever it raises is an error of one line."""
    try:
        return part(*arguments)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{option}: expected {name} to give something, got {told(error)}{place(error)}.") from error


def callable_part(option: str, name: str, what: str) -> Callable[..., Any]:
    """The object of a name, which must be callable.

    Raises:
        InputError: there is none, or it cannot be called; `what` says what it should be.
    """
    part = resolve(option, name)
    if not callable(part):
        raise InputError(f"{option}: expected {what}, got {name}, {printable(repr(part), SHOWN)}.")
    called: Callable[..., Any] = part
    return called
