"""Importing the applications of a generation: the only module that runs foreign code on purpose.

Called by `applications`, once for each, and again for one that is down.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import PathFinder
from types import TracebackType
from typing import Any

from serverd.asgi.types import Application, Receive, Scope, Send
from serverd.errors import AppLoadError
from serverd.generation import App

__all__ = ["as_application", "explain", "load_app", "own_traceback", "place"]

log = logging.getLogger("serverd.apps")

# What applications are called where nothing else is said; the last is Django's.
_USUAL = ("app", "application")
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_MACHINERY = (os.path.join(_OURS, ""), os.path.join(os.path.dirname(importlib.__file__), ""), "<frozen importlib")


def load_app(app: App) -> Application:
    """Return the ASGI 3 application that `app` names.

    Raises AppLoadError, with the application's own exception as its cause where there is one.
    """
    os.environ.update(app.env)
    if app.directory in sys.path:
        sys.path.remove(app.directory)
    sys.path.insert(0, app.directory)
    _check_taken(app)
    loaded = _find(app)
    if app.factory:
        loaded = _call_factory(app, loaded)
    return as_application(app, loaded)


def _find(app: App) -> Any:
    module_name, _, attribute_path = app.target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except BaseException as error:
        # Also SystemExit: a module that calls sys.exit() is a broken application, not a wish of ours.
        if isinstance(error, ModuleNotFoundError) and _is_part(error.name, module_name):
            near = _near_module(error.name or "", app.directory)
            text = f"there is no module {error.name!r} in {app.directory} or among the installed packages{near}"
            raise AppLoadError(text) from None
        raise AppLoadError(f"importing {module_name!r} failed: {_brief(error)}") from error
    name = module_name
    for attribute in (attribute_path or "app").split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise AppLoadError(f"{name} has no attribute {attribute!r}{_nearest(attribute, found)}") from None
        except BaseException as error:  # a module may import lazily, in its __getattr__
            raise AppLoadError(f"{name}.{attribute} cannot be had: {_brief(error)}") from error
        name = f"{name}.{attribute}"
    return found


def _check_taken(app: App) -> None:
    """Refuse an application whose module somebody has imported from elsewhere: it would silently get that one.

    The configuration's checks know what the applications are called, not what they import.
    """
    name = app.target.partition(":")[0].partition(".")[0]
    taken = sys.modules.get(name)
    own = PathFinder.find_spec(name, [app.directory])
    if taken is None or own is None or own.origin is None:
        return
    origin = getattr(taken, "__file__", None) or "within the interpreter"
    if os.path.realpath(origin) != os.path.realpath(own.origin):
        raise AppLoadError(f"module {name!r} is taken by {origin}, imported before: rename {own.origin}")


def _nearest(attribute: str, owner: object) -> str:
    """Return which attribute of a module or object may have been meant: one with a name like it, or a usual one."""
    import difflib  # workers whose application is there do without

    names = [name for name, value in getattr(owner, "__dict__", {}).items() if callable(value) and name[:1] != "_"]
    usual = [name for name in _USUAL if name in names]
    near = difflib.get_close_matches(attribute, names, n=1) or usual[:1]
    return f" (did you mean {near[0]!r}?)" if near else ": expected the name of the application there"


def _near_module(missing: str, directory: str) -> str:
    """Return which module beside the one that is missing may have been meant."""
    import difflib
    import pkgutil

    package, _, name = missing.rpartition(".")
    beside = getattr(sys.modules.get(package), "__path__", ()) if package else [directory]
    near = difflib.get_close_matches(name, [found.name for found in pkgutil.iter_modules(beside)], n=1)
    return f" (did you mean {'.'.join(filter(None, [package, near[0]]))!r}?)" if near else ""


def _is_part(missing: str | None, module_name: str) -> bool:
    """Return whether `missing` is the module itself or a package it stands in."""
    return missing is not None and f"{module_name}.".startswith(f"{missing}.")


def _call_factory(app: App, factory: Any) -> Any:
    try:
        return factory()
    except BaseException as error:
        raise AppLoadError(f"factory {app.target!r} failed: {_brief(error)}") from error


def as_application(app: App, loaded: Any) -> Application:
    """Return what `app` names, or somebody has given for it, as an ASGI 3 application; raises AppLoadError."""
    if app.interface == "auto" and _makes_applications(loaded):
        name = loaded.__name__
        raise AppLoadError(f"{app.target!r} is the class {name}: expected an instance of it, as {name}() makes")
    if not callable(loaded):
        raise AppLoadError(
            f"{app.target!r} is {type(loaded).__name__}, which cannot be called: expected an application"
        )
    interface = _detect(app, loaded) if app.interface == "auto" else app.interface
    if interface == "asgi3":
        return loaded  # type: ignore[no-any-return]
    return _from_asgi2(loaded)


def _makes_applications(loaded: Any) -> bool:
    """Return whether it is a class whose instances are called as ASGI 3 applications are.

    What its constructor takes may look like an application of ASGI 2 or 3. That of an ASGI 2 application, or of an
    endpoint that is awaited, has no such `__call__`.
    """
    if not inspect.isclass(loaded) or hasattr(loaded, "__await__"):
        return False
    own = next((vars(base)["__call__"] for base in loaded.__mro__ if "__call__" in vars(base)), None)
    if not inspect.isfunction(own):
        return False
    # What takes any number, as a wrapper does, may be that of ASGI 2, (receive, send).
    return _takes(inspect.signature(own), 4) and not _takes(inspect.signature(own), 3)


def _detect(app: App, loaded: Callable[..., Any]) -> str:
    """Tell ASGI 3 from ASGI 2 by the arguments that the application takes (ASGI spec, "Legacy Applications")."""
    try:
        signature = inspect.signature(loaded)
    except (TypeError, ValueError):
        return "asgi3"  # written in C: nothing to look at
    for interface, count in (("asgi3", 3), ("asgi2", 1)):
        if _takes(signature, count):
            return interface
    if _takes(signature, 0):
        raise AppLoadError(f"{app.target!r} takes no argument: a factory needs factory = true, or --factory")
    if _takes(signature, 2):
        raise AppLoadError(
            f"{app.target!r} takes two arguments as a WSGI application does: expected an ASGI application"
            " (a2wsgi.WSGIMiddleware makes one of it)"
        )
    raise AppLoadError(f"{app.target!r} takes {signature}: expected (scope, receive, send)")


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*(None,) * count)
    except TypeError:
        return False
    return True


def _from_asgi2(loaded: Callable[..., Any]) -> Application:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scope["asgi"] = {**scope["asgi"], "version": "2.0"}
        await loaded(scope)(receive, send)

    return application


def _brief(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()


def place(app: App) -> str:
    """Return how the operator finds `app`: where it stands in the configuration, and its name; or what was typed."""
    has_line = app.source.rpartition(":")[2].isdigit()
    return f"{app.source}: apps.{app.name}" if has_line else f"{app.source} {app.target}"


def explain(app: App, error: BaseException) -> tuple[str, str]:
    """Return what the operator reads: one line with the place in the configuration, and the traceback."""
    cause = error.__cause__
    return f"{place(app)}: {error}", "" if cause is None else own_traceback(cause)


def own_traceback(error: BaseException) -> str:
    """Return the traceback of `error` in full, from where the application's code begins."""
    frames: TracebackType | None = error.__traceback__
    while frames is not None and _is_machinery(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    # A SyntaxError has no frame of the application at all: its own text names file and line.
    return "".join(traceback.format_exception(type(error), error, frames))


def _is_machinery(filename: str) -> bool:
    return filename.startswith(_MACHINERY)
