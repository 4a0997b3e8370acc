"""The source itself: no autodiff stands below a hand-written backward pass, and imports only go down."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BY_HAND = [
    path for part in ("layers", "losses", "models") for path in sorted((ROOT / "pipeline" / part).glob("*.py"))
] + [ROOT / "pipeline" / name for name in ("backprop.py", "attribution.py")]

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
WHERE_IT_BELONGS = {("backprop.py", "attach", "custom_vjp"), ("backprop.py", "_by_autodiff", "value_and_grad")}

BELOW = {
    "compiler": set(),
    "layers": set(),
    "losses": {"layers"},
    "backprop": {"layers", "losses"},
    "attribution": {"layers"},
    "verify": {"compiler", "layers", "losses", "report"},
    "models": {"compiler", "layers", "losses", "backprop", "verify", "attribution"},
    "data": {"compiler", "layers", "losses", "backprop", "verify"},
    "report": {"layers", "losses"},
    "training": {"compiler", "layers", "losses", "backprop", "verify", "models", "data", "report"},
    "pytest_plugin": {"verify"},
    "parallel": {"layers", "losses", "backprop", "verify", "models", "data"},
    "errors": set(),
    "options": set(),
}
"""What each part of ``pipeline`` may import, besides itself, ``errors`` and ``options``."""


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


def test_the_two_exceptions_hold_only_where_they_belong():
    source = "import jax\ndef attach(f): return jax.custom_vjp(f)\ndef other(f): return jax.custom_vjp(f)"
    assert violations(source, "backprop.py") == ["line 3: jax.custom_vjp"]
    assert len(violations(source, "linear.py")) == 2


def parts_imported(source: str) -> set[str]:
    """The parts of ``pipeline`` (``layers``, ``backprop``, ...) and the other packages of ours that are imported."""
    ours = [name.split(".") for name in imports(ast.parse(source))]
    parts = {name[1] for name in ours if name[0] == "pipeline" and len(name) > 1}
    return parts | {name[0] for name in ours if name[0] in ("tasks", "scripts", "tests")}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "pipeline").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_imports_only_go_down(path):
    part = path.relative_to(ROOT / "pipeline").parts[0].removesuffix(".py")
    if part != "__init__":
        assert parts_imported(path.read_text()) <= BELOW[part] | {part, "errors", "options"}


def test_a_planted_import_is_found():
    source = "import tasks.image_recognition\nfrom pipeline.training.loop import fit\nfrom pipeline import losses"
    assert parts_imported(source) == {"tasks", "training", "losses"}


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


MEASURES = ("compiler.py", "canary.py", "measure.py")
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
