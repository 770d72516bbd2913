"""The layers of the package: imports point one way, libraries stay where they belong."""

import ast
import itertools
from dataclasses import dataclass
from pathlib import Path

import pytest

import optimagic_lite

ROOT = Path(optimagic_lite.__file__).parent
PACKAGE = ROOT.name

# From the bottom to the top. A module imports from its own layer and those below it.
LAYERS = [
    {
        "exceptions",
        "options",
        "log_options",
        "constraints",
        "deprecations",
        "mark",
        "stopping",
        "failures",
        "data",
        "compilation",
        "utilities",
        "parallel",
        "progress",
    },
    {"space"},
    {"objective"},
    {"history", "log"},
    {"batch", "callback", "recorder", "tally", "evaluator"},
    {"algorithms", "algos", "escape"},
    {
        "functions",
        "problem",
        "multistart",
        "prepared",
        "resume",
        "result",
        "batch_inputs",
        "batch_result",
        "inference",
        "differentiation",
        "derivative_check",
        "derivative_report",
    },
    {
        "optimize",
        "plots",
        "implicit",
        "jax_problem",
        "jax_edges",
        "jax_solve",
        "argmin",
        "batch_problem",
        "batch_run",
        "minimize_batch",
        "benchmarking",
    },
    {"live", "watch", "serve", "cli", "demo", "__init__"},
    {"__main__"},
]
LEVEL = {unit: level for level, units in enumerate(LAYERS) for unit in units}

# Where a library may be imported at all; "" is the whole package.
HOMES = {
    "sqlalchemy": ["log"],
    "sqlite3": ["log"],
    "plotly": ["plots"],
    "matplotlib": ["plots.backends", "plots.matplotlib"],
    "nlopt": ["algorithms.nlopt", "algorithms.nlopt_child"],
    "optax": ["algorithms.optax"],
    "optimistix": ["algorithms.optimistix"],
    "lineax": ["algorithms.optimistix"],
    "equinox": ["algorithms"],
    "scipy": ["algorithms", "benchmarking", "objective", "space"],
    "pickle": ["result", "parallel.portable"],
    "cloudpickle": ["parallel"],
    "joblib": ["parallel"],
    "distributed": ["parallel.dask"],
    "dask": ["parallel.dask"],
    "ray": ["parallel.ray"],
    "rich": ["watch"],
    "sif2jax": ["benchmarking.cutest"],
    "pyarrow": ["cli.export"],
    "starlette": ["serve"],
    "uvicorn": ["serve"],
    "argparse": ["cli.arguments", "demo"],
}

# What costs too much to load with the package. It is imported inside functions, or in those
# units that are themselves loaded on first use.
HEAVY = {
    "pandas",
    "sqlalchemy",
    "sqlite3",
    "plotly",
    "matplotlib",
    "nlopt",
    "optax",
    "optimistix",
    "lineax",
    "equinox",
    "scipy",
    "joblib",
    "distributed",
    "dask",
    "ray",
    "rich",
    "sif2jax",
    "pyarrow",
    "starlette",
    "uvicorn",
}
LOADED_ON_FIRST_USE = {
    "log",
    "plots",
    "live",
    "watch",
    "serve",
    "cli",
    "demo",
    "benchmarking",
    "__main__",
}


@dataclass(frozen=True)
class Import:
    """One import: who, what, and whether it is carried out when the module is loaded."""

    module: str
    target: str
    line: int
    when: str  # "load", "call" or "typing"


def name_of(path):
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imports_of(module):
    """Yield all imports of a module, those in functions and for type checkers included."""
    yield from _walk(TREES[module], module, "load")


def _walk(node, module, when):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            for target in _targets(child, module):
                yield Import(module, target, child.lineno, when)
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _walk(child, module, "call" if when == "load" else when)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for inner in child.body:
                yield from _walk(ast.Module([inner], []), module, "typing")
            for inner in child.orelse:
                yield from _walk(ast.Module([inner], []), module, when)
        else:
            yield from _walk(child, module, when)


def _targets(node, module):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, f"{module}, line {node.lineno}: imports are absolute"
    # "from package import module" imports a module as well as a name
    return [
        full if _own(full) in MODULES else node.module
        for full in (f"{node.module}.{alias.name}" for alias in node.names)
    ]


def _own(target):
    """The module of the package that an import means, without the name of the package."""
    if target == PACKAGE:
        return "__init__"
    return target.removeprefix(f"{PACKAGE}.") if target.startswith(f"{PACKAGE}.") else None


def own_imports():
    """Pairs of an import and the module of the package that it imports."""
    for module in MODULES:
        for item in imports_of(module):
            target = _own(item.target)
            if target is not None:
                yield item, target


def unit(module):
    return module.split(".")[0]


def lies_in(module, home):
    return module == home or module.startswith(f"{home}.")


def test_every_module_has_its_layer():
    homeless = {unit(name) for name in MODULES} - set(LEVEL)

    assert not homeless, f"Give these a layer: {homeless}"


def test_imports_point_down():
    wrong = [
        f"{item.module}, line {item.line} imports {target}"
        for item, target in own_imports()
        if LEVEL[unit(target)] > LEVEL[unit(item.module)]
    ]

    assert wrong == []


def test_every_import_is_of_something_that_exists():
    assert [str(item) for item, target in own_imports() if target not in MODULES] == []


def find_circle(edges):
    """Return a circle in a graph, or None."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        path.append(node)
        for target in sorted(edges.get(node, ())):
            if circle := visit(target):
                return circle
        path.pop()
        done.add(node)
        return None

    return next((circle for node in sorted(edges) if (circle := visit(node))), None)


def graph(pairs):
    edges = {}
    for source, target in pairs:
        if source != target:
            edges.setdefault(source, set()).add(target)
    return edges


def test_modules_depend_on_each_other_in_no_circle():
    # an import in a function, or for type checkers, hides a circle and does not remove it
    pairs = [(item.module, target) for item, target in own_imports()]

    assert find_circle(graph(pairs)) is None


def test_circles_are_found():
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_circle({"a": {"b", "c"}, "b": {"c"}}) is None


@pytest.mark.parametrize("library", HOMES)
def test_libraries_are_used_where_they_belong(library):
    wrong = [
        f"{item.module}, line {item.line}"
        for module in MODULES
        for item in imports_of(module)
        if item.target.split(".")[0] == library
        and not any(lies_in(module, home) for home in HOMES[library])
    ]

    assert wrong == []


def test_heavy_libraries_are_not_loaded_with_the_package():
    wrong = [
        f"{item.module}, line {item.line} loads {item.target}"
        for module in MODULES
        if unit(module) not in LOADED_ON_FIRST_USE
        for item in imports_of(module)
        if item.when == "load" and item.target.split(".")[0] in HEAVY
    ]

    assert wrong == []


def test_units_loaded_on_first_use_are_not_loaded_with_the_package():
    wrong = [
        f"{item.module}, line {item.line} loads {target}"
        for item, target in own_imports()
        if item.when == "load"
        and unit(target) in LOADED_ON_FIRST_USE
        and unit(item.module) not in LOADED_ON_FIRST_USE
    ]

    assert wrong == []


def test_no_algorithm_sees_the_users_functions_or_the_records():
    # an algorithm evaluates through the evaluator alone
    wrong = [
        f"{item.module}, line {item.line} imports {target}"
        for item, target in own_imports()
        if unit(item.module) == "algorithms" and unit(target) in ("history", "log", "space")
    ]

    assert wrong == []


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for(module):
    docstring = ast.get_docstring(TREES[module])

    assert docstring
    assert docstring.splitlines()[0].endswith(".")


def test_no_module_imports_everything_from_another():
    starred = [
        f"{module}, line {node.lineno}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]

    assert starred == []


def test_private_names_of_other_modules_are_left_alone():
    wrong = [
        f"{module}, line {node.lineno} imports {alias.name} of {node.module}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE)
        for alias in node.names
        if alias.name.startswith("_")
    ]

    assert wrong == []


def test_the_layers_are_disjoint():
    assert sum(map(len, LAYERS)) == len(set(itertools.chain(*LAYERS)))
