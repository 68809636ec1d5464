"""The dependency rules: who may import what, read from the source with ast.

Imports under `if TYPE_CHECKING` are free: they bind nothing when the program runs.
"""

from __future__ import annotations

import ast
import statistics
import sys
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
OURS = ("stream_detector", "trainer")
MAX_LINES = 400

COMPOSITION_ROOTS = ("stream_detector.cli", "stream_detector.commands", "trainer.cli")
CORE = ("stream_detector.core", "stream_detector.records")
APP = tuple(
    f"stream_detector.{name}"
    for name in ("app", "inputs", "keeper", "outbox", "rekeying", "restore", "ticking")
)
FOR_ADAPTERS = (
    "stream_detector.core",  # but never its engine
    "stream_detector.records",
    "stream_detector.ports",
    "stream_detector.bundle",
    "stream_detector.manifest",
    "stream_detector.config",
    "stream_detector.formats",
)
FOR_THE_APP = (*FOR_ADAPTERS, *APP)
FOR_THE_TRAINER = (*FOR_ADAPTERS, *APP, "trainer")

HOMES = {
    "kafka": ("stream_detector.adapters.kafka",),
    "prometheus_client": ("stream_detector.adapters.prometheus",),
    "pyarrow": ("stream_detector.formats.tables.parquet", "stream_detector.adapters.store",
                "stream_detector.adapters.snapshots.remote"),
    "torch": ("stream_detector.adapters.torch_scorer", "trainer"),
    "matplotlib": ("trainer.report.pictures", "trainer.promise.picture"),
    "sklearn": ("trainer",),
    "scipy": ("trainer.promise", "trainer.recipes"),
    "optuna": ("trainer.tuning.tune",),
    "yaml": ("stream_detector.config",),
    "typer": ("stream_detector.cli", "stream_detector.commands", "stream_detector.console",
              "trainer"),
    "rich": ("stream_detector.commands", "trainer"),
    "numpy": OURS,
    "msgspec": OURS,
}  # fmt: skip
"""Third-party package -> the modules or packages that may know it; no other may be imported."""

OUTSIDE = frozenset(
    {
        "socket",
        "ssl",
        "http",
        "urllib.request",
        "subprocess",
        "threading",
        "multiprocessing",
        "asyncio",
    }
    | {"concurrent", "signal", "select", "selectors", "shutil", "tempfile", "logging"}
)
"""Standard library that talks to the world or waits."""


@dataclass(frozen=True)
class Import:
    """`module` imports `name` at a line; `lazily`: inside a function."""

    module: str
    line: int
    name: str
    lazily: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.name}"


def inside(name: str, *places: str) -> bool:
    """Whether a dotted name is one of these modules, or lies in one of them."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(module: str, source: str, *, typing: bool = False) -> list[Import]:
    """What a module imports when it runs, as full names of modules (or of names in them);

    `typing`: and what it names in its types alone.
    """
    found: list[Import] = []

    def walk(node: ast.AST, *, lazily: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if not typing and isinstance(child, ast.If) and _typing_only(child.test):
                for other in child.orelse:
                    walk(ast.Module([other], []), lazily=lazily)
                continue
            found.extend(Import(module, *each, lazily) for each in _names(child, module))
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            walk(child, lazily=lazily or function)

    walk(ast.parse(source), lazily=False)
    return found


def _typing_only(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return bool(name == "TYPE_CHECKING")


def _names(node: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield node.lineno, alias.name
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:  # relative to the package, and a package is its own
            package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
            parts = package.split(".")
            base = ".".join(filter(None, [*parts[: len(parts) + 1 - node.level], base]))
        for alias in node.names:
            yield node.lineno, f"{base}.{alias.name}"


ALL = [each for name, path in FILES.items() for each in imports(name, path.read_text("utf-8"))]


def of(*places: str) -> list[Import]:
    """Imports by these modules; there must be such modules, or a rule would hold for nothing."""
    assert any(inside(name, *places) for name in FILES), f"no module in {places}"
    return [each for each in ALL if inside(each.module, *places)]


def listed(broken: list[Import]) -> str:
    return "\n".join(map(str, broken))


def adapter(name: str) -> str:
    """The file or package of adapters that a module belongs to; one package counts as one."""
    return ".".join(name.split(".")[:3])


def test_core_and_records_import_only_the_standard_library_numpy_and_each_other() -> None:
    broken = [
        each
        for each in of(*CORE)
        if not inside(each.name, *CORE, "numpy")
        and (each.name.split(".")[0] not in sys.stdlib_module_names or inside(each.name, *OUTSIDE))
    ]
    assert not broken, listed(broken)


def test_core_has_no_clock_and_no_chance() -> None:
    chance = ("random", "secrets", "uuid", "numpy.random", "os", "io", "pathlib")
    moments = ("time", "datetime.datetime.now")
    broken = [each for each in of(*CORE) if inside(each.name, *chance, *moments)]
    assert not broken, listed(broken)


def test_ports_import_only_records_and_the_standard_library() -> None:
    broken = [
        each
        for each in of("stream_detector.ports")
        if not inside(each.name, "stream_detector.records", "stream_detector.bundle", "numpy")
        and each.name.split(".")[0] not in sys.stdlib_module_names
    ]
    assert not broken, listed(broken)


def test_adapters_never_import_the_engine_the_app_or_each_other() -> None:
    broken = [
        each
        for each in of("stream_detector.adapters")
        if inside(each.name, *OURS)
        and (
            inside(each.name, "stream_detector.core.engine")
            or not inside(each.name, *FOR_ADAPTERS, adapter(each.module))
        )
    ]
    assert not broken, listed(broken)


def test_the_app_sees_core_formats_and_ports_and_no_adapter() -> None:
    broken = [
        each
        for each in of(*APP)
        if inside(each.name, *OURS) and not inside(each.name, *FOR_THE_APP)
    ]
    assert not broken, listed(broken)


def test_formats_turn_bytes_into_values_and_know_no_core_and_no_connection() -> None:
    allowed = ("stream_detector.formats", "stream_detector.records", "stream_detector.config")
    broken = [
        each
        for each in of("stream_detector.formats")
        if (inside(each.name, *OURS) and not inside(each.name, *allowed))
        or inside(each.name, *OUTSIDE)
    ]
    assert not broken, listed(broken)


def test_only_composition_roots_import_adapters() -> None:
    broken = [
        each
        for each in ALL
        if inside(each.name, "stream_detector.adapters")
        and not inside(each.module, "stream_detector.adapters", *COMPOSITION_ROOTS)
    ]
    assert not broken, listed(broken)


def test_the_trainer_sees_only_the_shared_parts_of_the_detector() -> None:
    broken = [
        each
        for each in of("trainer")
        if inside(each.name, *OURS)
        and not inside(each.name, *FOR_THE_TRAINER)
        and not (each.module == "trainer.cli" and inside(each.name, "stream_detector.adapters"))
        # How both programs end: exit codes and one-line errors are the same contract.
        and not (each.module == "trainer.cli" and inside(each.name, "stream_detector.console"))
    ]
    assert not broken, listed(broken)


def home(name: str) -> str:
    """The module of ours that a name is, or lies in; else nothing."""
    while name and name not in FILES:
        name = name.rpartition(".")[0]
    return name


def circle(uses: dict[str, set[str]]) -> list[str]:
    """Modules that lead back to the first of them; none where there is no such way."""
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_need_each_other_not_even_for_their_types() -> None:
    uses = {
        name: {home(each.name) for each in imports(name, path.read_text("utf-8"), typing=True)}
        - {"", name}
        for name, path in FILES.items()
    }
    found = circle(uses)
    assert not found, " <- ".join(found)


def test_a_circle_of_modules_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}


def eager_reach(start: str) -> set[str]:
    """Our modules that importing `start` loads at once; packages above them included."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = home(waiting.pop())
        if not name or name in seen:
            continue
        seen.add(name)
        waiting.append(name.rpartition(".")[0])
        waiting += [each.name for each in ALL if each.module == name and not each.lazily]
    return seen


def test_only_commands_know_the_trainer() -> None:
    broken = [
        each
        for each in of("stream_detector")
        if inside(each.name, "trainer") and not inside(each.module, "stream_detector.commands")
    ]
    assert not broken, listed(broken)


def test_starting_the_detector_loads_no_trainer() -> None:
    reached = eager_reach("stream_detector.cli")
    assert "stream_detector.commands.run" in reached
    assert not [name for name in reached if inside(name, "trainer")]


@pytest.mark.parametrize("start", ["stream_detector.cli", "trainer.cli"])
def test_help_does_not_wait_for_torch(start: str) -> None:
    reached = eager_reach(start)
    broken = [
        each
        for each in ALL
        if each.module in reached and not each.lazily and inside(each.name, "torch")
    ]
    assert not broken, listed(broken)


def test_each_third_party_client_is_known_in_its_own_place_only() -> None:
    broken = []
    for each in ALL:
        package = each.name.split(".")[0]
        if package in OURS or package in sys.stdlib_module_names:
            continue
        if package not in HOMES or not inside(each.module, *HOMES[package]):
            broken.append(each)
    assert not broken, listed(broken)


def test_the_detector_does_not_need_what_only_an_extra_installs() -> None:
    """pyarrow comes with the extra `store`: it is imported where it is used, or not at all."""
    users = ("stream_detector.adapters.store", "stream_detector.adapters.snapshots.remote")
    broken = [
        each
        for each in ALL
        if inside(each.name, "pyarrow", *users)
        and not each.lazily
        and not inside(each.module, *users)
    ]
    assert not broken, listed(broken)


@pytest.mark.parametrize("module", FILES)
def test_modules_are_short_enough_to_read(module: str) -> None:
    lines = len(FILES[module].read_text("utf-8").splitlines())
    assert lines <= MAX_LINES, f"{module} has {lines} lines; split it"


def test_half_of_the_modules_are_shorter_than_150_lines() -> None:
    lengths = [len(path.read_text("utf-8").splitlines()) for path in FILES.values()]
    assert statistics.median(length for length in lengths if length) <= 150


def test_the_reader_of_imports_sees_what_it_should() -> None:
    source = """
from typing import TYPE_CHECKING
import a.b as c
if TYPE_CHECKING:
    import hidden
else:
    import shown
try:
    from d import e, f
except ImportError:
    import g
def lazy():
    from h import i
class K:
    import j
"""
    found = {(each.name, each.lazily) for each in imports("stream_detector.app", source)}
    assert found == {
        ("typing.TYPE_CHECKING", False),
        ("a.b", False),
        ("shown", False),
        ("d.e", False),
        ("d.f", False),
        ("g", False),
        ("h.i", True),
        ("j", False),
    }
