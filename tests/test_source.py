"""The source itself: no autodiff below a manual backward pass, imports that only go down, compiled as it should be."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BY_HAND = [
    path for part in ("layers", "losses", "models") for path in sorted((ROOT / "pipeline" / part).glob("*.py"))
] + [ROOT / "pipeline" / name for name in ("attachment.py", "attribution.py", "backprop.py", "fused.py")]

AUTODIFF = {
    "grad",
    "value_and_grad",
    "vjp",
    "jvp",
    "linearize",
    "linear_transpose",
    "linear_call",
    "jacfwd",
    "jacrev",
    "hessian",
    "checkpoint",
    "remat",
    "closure_convert",
    "custom_vjp",
    "custom_jvp",
    "custom_gradient",
}
"""What differentiates, or gives a rule to what does."""
LIBRARIES = {"optax", "flax", "equinox", "haiku", "torch", "tensorflow", "autograd"}
"""What may hide a rule of its own."""
WHERE_IT_BELONGS = {
    ("attachment.py", "_jvp_of_floats", "jvp"),  # forward mode, from the definition
    ("backprop.py", "_by_autodiff", "value_and_grad"),
}

BELOW = {
    "display": set(),
    "errors": {"display"},
    "extras": set(),
    "options": {"errors"},
    "storage": {"errors"},
    "compiler": {"errors"},
    "layers": set(),
    "losses": {"layers"},
    "models": {"layers", "losses"},
    "attachment": {"layers"},
    "backprop": {"attachment", "layers"},
    "parallel": {"errors", "layers"},
    "fused": {"attachment", "layers", "losses"},
    "interop": {"attachment", "layers"},
    "attribution": {"compiler", "layers"},
    "data": {"compiler", "display", "errors", "losses", "options", "storage"},
    "decoding": {"attribution", "compiler", "data", "errors", "layers", "losses", "models", "options"},
    "evaluation": {"compiler", "data", "layers", "losses", "models", "storage"},
    "report": {"attribution", "compiler", "data", "decoding", "display", "evaluation", "layers", "storage"},
    "verify": {"compiler", "errors", "layers", "report"},
    "training": {
        *("backprop", "compiler", "data", "display", "errors", "evaluation", "layers", "options", "parallel"),
        *("storage", "verify"),
    },
    "plugin": set(),
    "__init__": {"attachment", "backprop"},
    "__main__": {"compiler", "verify"},
}
"""What each part of ``pipeline`` imports of the others, except ``extras``: all of it, and nothing else."""


def dotted(node: ast.AST) -> str:
    """``jax.nn.relu`` of the expression that says so; the last names where it starts with a call."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def imports(tree: ast.AST) -> set[str]:
    """The dotted name of everything that is imported, with what is taken from it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def violations(source: str, file: str) -> list[str]:
    """Every use of autodiff, or of what may hide a derivative, in a file whose derivatives are written by hand."""
    tree = ast.parse(source)
    found = [f"imports {name}" for name in sorted(imports(tree)) if _hides_a_rule(name)]
    for top in tree.body:
        inside = getattr(top, "name", "")
        for node in ast.walk(top):
            if isinstance(node, ast.Attribute):
                name = dotted(node)
                if _hides_a_rule(name) and (file, inside, node.attr) not in WHERE_IT_BELONGS:
                    found.append(f"line {node.lineno}: {name}")
    return found


def _hides_a_rule(name: str) -> bool:
    parts = name.split(".")
    if "jax.nn" in name or name.startswith("nn."):
        return not name.startswith(("jax.nn.initializers", "nn.initializers")) and name not in ("jax.nn", "nn")
    return parts[-1] in AUTODIFF or parts[0] in LIBRARIES


@pytest.mark.parametrize("path", BY_HAND, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_autodiff_below_a_backward(path):
    assert violations(path.read_text(), path.name) == []


@pytest.mark.parametrize(
    "source",
    [
        "import jax\ndef backward(f, x): return jax.grad(f)(x)",
        "import jax\nclass L:\n  def backward(self, p, r, d): return jax.vjp(self.f, r)[1](d)",
        "from jax import value_and_grad",
        "from jax import vjp as pull_back",
        "import jax.numpy as jnp, jax\nf = jax.custom_vjp(lambda x: x)",
        "from jax.ad_checkpoint import checkpoint",
        "import jax\ny = jax.nn.relu(0.0)",
        "from jax.nn import gelu",
        "from jax import nn\ny = nn.softmax(x)",
        "import optax",
        "from flax import linen",
        "import jax\nf = jax.api.linear_transpose(g, x)",
    ],
)
def test_a_planted_derivative_is_found(source):
    assert violations(source, "convolution.py")


@pytest.mark.parametrize(
    "source",
    [
        "from jax import lax\ny = lax.stop_gradient(x)",
        "import jax\nlecun = jax.nn.initializers.lecun_normal()",
        "def vjp_of(x): return x",
    ],
)
def test_what_is_allowed_is_not_accused(source):
    assert violations(source, "convolution.py") == []


def test_exceptions_hold_only_where_they_belong():
    source = "import jax\ndef _by_autodiff(f): return jax.value_and_grad(f)\ndef other(f): return jax.value_and_grad(f)"
    assert violations(source, "backprop.py") == ["line 3: jax.value_and_grad"]
    assert len(violations(source, "linear.py")) == 2


def part_of(path: Path) -> str:
    """The part of ``pipeline`` that a file belongs to: a folder, or the file itself."""
    return path.relative_to(ROOT / "pipeline").parts[0].removesuffix(".py")


def parts_imported(source: str, package: tuple[str, ...] = ()) -> set[str]:
    """The parts of ``pipeline`` (``layers``, ``backprop``, ...) and the other packages of ours that are imported.

    package: the one that the source belongs to, to which its relative imports are.
    """
    parts = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            names = [[*module, alias.name] for alias in node.names]
        else:
            continue
        parts |= {name[1] for name in names if name[0] == "pipeline" and len(name) > 1}
        parts |= {name[0] for name in names if name[0] in ("tasks", "scripts", "tests")}
    return parts


@pytest.mark.parametrize("part", BELOW)
def test_each_part_imports_what_it_may_and_no_part_may_more(part):
    imported = set()
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        if part_of(path) == part:
            package = ("pipeline", *path.parent.relative_to(ROOT / "pipeline").parts)
            imported |= parts_imported(path.read_text(), package)
    assert imported - {part, "extras"} == BELOW[part]


def test_every_part_is_listed_and_imports_go_down():
    assert {part_of(path) for path in (ROOT / "pipeline").rglob("*.py")} == set(BELOW)
    graphlib.TopologicalSorter(BELOW).prepare()  # raises where there is a circle


def test_a_planted_import_is_found():
    source = "import tasks.image_recognition\nfrom pipeline.training.loop import fit\nfrom pipeline import losses"
    assert parts_imported(source) == {"tasks", "training", "losses"}
    relative = "from ..training.loop import fit\nfrom .base import Layer\nfrom .. import compiler"
    assert parts_imported(relative, ("pipeline", "layers")) == {"training", "layers", "compiler"}


def uncompiled(source: str) -> list[str]:
    """Every ``jax.jit`` that goes without the compiler's options; of code whose programs are only exported, none."""
    tree = ast.parse(source)
    exported = {id(node) for call in ast.walk(tree) if _exports(call) for node in ast.walk(call)}
    return [
        f"line {node.lineno}: {dotted(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and dotted(node) in ("jax.jit", "jax.pmap") and id(node) not in exported
    ]


def _exports(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and dotted(node.func) == "jax.export.export"


MEASURES = ("compiler.py", "canary.py", "measure.py", "verify_sharding.py")
"""What compiles with other options on purpose."""


@pytest.mark.parametrize(
    "path",
    [path for part in ("pipeline", "tasks", "scripts") for path in sorted((ROOT / part).rglob("*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_everything_is_compiled_with_the_options_of_the_compiler(path):
    assert path.name in MEASURES or uncompiled(path.read_text()) == []


def test_a_planted_jit_is_found():
    assert uncompiled("import jax\n@jax.jit\ndef f(x): return x") == ["line 2: jax.jit"]
    assert uncompiled("import jax\nf = jax.export.export(jax.jit(g))(x)") == []
    assert uncompiled("from pipeline import compiler\nf = compiler.jit(g)") == []
