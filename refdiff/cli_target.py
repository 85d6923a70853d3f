"""From the words of a command line to a target of the oracle."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from refdiff.cli_words import nearest
from refdiff.oracle import Target, adapters


def named(pairs: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` pairs by name."""
    return dict(map(_pair, pairs))


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals or not value:
        raise ValueError(f"{text!r} is not of the form NAME=VALUE")
    return key.strip(), value.strip()


def load(name: str, options: Mapping[str, str]) -> Target:
    """The target that a name stands for: ``library:Class``, ``pkg.module:attr`` or ``file.py:attr``."""
    where, colon, attribute = name.rpartition(":")
    if not colon or not where or not attribute:
        forms = "library:Name, pkg.module:attr or file.py:attr"
        raise ValueError(f"target {name!r} is not of the form {forms}")
    if where in adapters.LIBRARIES:
        return adapters.load(name, options)
    try:
        return built(_attribute(_module(where), attribute), name, adapters.parsed(options))
    except ValueError:
        raise
    except Exception as error:  # whatever foreign code raises while it is imported and built
        raise ValueError(f"target {name!r} cannot be built: {type(error).__name__}: {error}") from error


def _module(where: str) -> ModuleType:
    if not where.endswith(".py"):
        sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(where)
    path = Path(where).resolve()
    if not path.is_file():
        raise ValueError(f"target file {where!r} does not exist")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _attribute(module: ModuleType, path: str) -> Any:
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{module.__name__} has no {part!r}{nearest(part, dir(found))}")
        found = getattr(found, part)
    return found


def built(found: Any, name: str, options: Mapping[str, Any]) -> Target:
    """A target from an instance, a class or a factory; the options are the arguments of the latter two."""
    if inspect.isclass(found) or (callable(found) and not isinstance(found, Target)):
        found = found(**options)
    elif options:
        raise ValueError(f"{name} is an instance: it takes no --set {', '.join(options)}")
    if not isinstance(found, Target):
        raise ValueError(f"{name} is a {type(found).__name__}, not a refdiff.Target")
    return found
