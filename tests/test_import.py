"""``import refdiff`` is light: it loads nothing but itself until a topic is touched."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

HEAVY = {"torch", "sympy", "numpy", "scipy", "flint", "mpmath", "diffusers", "typer", "rich", "derivations"}

LIST_NEW_MODULES = """
import json, sys
before = set(sys.modules)
{statement}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def new_modules(statement: str) -> set[str]:
    """Names of the modules that a statement loads in a fresh interpreter."""
    program = LIST_NEW_MODULES.format(statement=statement)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def outside_the_standard_library(modules: set[str]) -> set[str]:
    return {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names)


def seconds(program: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - start


def test_importing_refdiff_loads_only_refdiff() -> None:
    assert outside_the_standard_library(new_modules("import refdiff")) == {"refdiff"}


def test_importing_refdiff_loads_few_modules() -> None:
    assert len(new_modules("import refdiff")) <= 30


def test_touching_a_topic_loads_torch_and_no_computer_algebra() -> None:
    """The same measurement does see a heavy import when there is one."""
    loaded = outside_the_standard_library(new_modules("import refdiff; refdiff.schedule"))
    assert "torch" in loaded
    assert not loaded & {"derivations", "diffusers", "typer", "flint"}


def test_dir_lists_the_lazy_topics_without_loading_them() -> None:
    loaded = new_modules("import refdiff; assert {'schedule', 'ddpm', 'ddim', 'check'} <= set(dir(refdiff))")
    assert not outside_the_standard_library(loaded) & HEAVY


def test_import_time_is_reported(record_property) -> None:  # type: ignore[no-untyped-def]
    """The figure behind the promise of 50 ms; modules are what is asserted: no busy machine changes them."""
    pairs = [(seconds("pass"), seconds("import refdiff")) for _ in range(5)]
    extra = statistics.median(loaded - bare for bare, loaded in pairs)
    record_property("import_refdiff_extra_ms", round(1000 * extra, 1))
    assert not outside_the_standard_library(new_modules("import refdiff")) & HEAVY
