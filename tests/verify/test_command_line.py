"""``python -m pipeline.verify`` as its users call it, on modules that they may have written."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.verify.__main__ import Request, verify_target
from pipeline.verify.targets import draw, resolve

RULES = """
import jax
import jax.numpy as jnp
import numpy as np

from pipeline.layers.linear import Dense
from pipeline.verify import check_vjp

number = 3
layer = Dense(4)
batch = (np.ones((2, 3), np.float32), np.ones((3, 5), np.float32), np.ones(5, np.float32))


def dense(x, kernel, bias):
    return jnp.matmul(x, kernel) + bias


def forward(x, kernel, bias):
    return dense(x, kernel, bias), (x, kernel)


def right(residuals, d_y):
    x, kernel = residuals
    return d_y @ kernel.T, x.T @ d_y, d_y.sum(0)


def wrong(residuals, d_y):
    x, kernel = residuals
    return d_y @ kernel.T, 3 * (x.T @ d_y), d_y.sum(0)


def pick(table, ids):
    return table[ids]


def pick_forward(table, ids):
    return table[ids], (table, ids)


def pick_backward(residuals, d_y):
    table, ids = residuals
    return jnp.zeros_like(table).at[ids].set(d_y), None


@jax.custom_vjp
def attached(x, kernel, bias):
    return dense(x, kernel, bias)


attached.defvjp(forward, right)
bare = jax.custom_vjp(dense)


@jax.custom_vjp
def wrongly_attached(x, kernel, bias):
    return dense(x, kernel, bias)


wrongly_attached.defvjp(forward, wrong)


def carries(x, kernel, bias):
    return attached(x, kernel, bias)


def arguments():
    random = np.random.default_rng(3)
    return [random.normal(size=shape).astype(np.float32) for shape in ((2, 3), (3, 5), (5,))]


def edges():
    return [tuple(0 * argument for argument in arguments())]


def raises():
    raise ValueError("on purpose")


def report():
    return check_vjp(dense, forward, right, arguments())


class Rules:
    dense = staticmethod(dense)
"""
EVERY_RULE = """
import jax
import jax.numpy as jnp
import numpy as np


def dense(x, kernel, bias):
    return x @ kernel + bias


def dense_forward(x, kernel, bias):
    return dense(x, kernel, bias), (x, kernel)


def dense_backward(residuals, d_y):
    x, kernel = residuals
    return d_y @ kernel.T, 3 * (x.T @ d_y), d_y.sum(0)


def lookup(table, ids):
    return table[ids]


def lookup_fwd(table, ids):
    return table[ids], (table, ids)


def lookup_bwd(residuals, d_y):
    table, ids = residuals
    return jnp.zeros_like(table).at[ids].add(d_y), None


lookup_arguments = np.arange(10, dtype=np.float32).reshape(5, 2), np.array([0, 3, 3])


@jax.custom_jvp
def sine(x):
    return jnp.sin(x)


sine.defjvp(lambda primals, tangents: (jnp.sin(primals[0]), jnp.cos(primals[0]) * tangents[0]))
sine = jax.jit(sine)


def nothing_fits(a, b):
    return jnp.einsum("abc,cde->a", a, b)


def nothing_fits_forward(a, b):
    return nothing_fits(a, b), None


def nothing_fits_backward(_, d_y):
    return d_y, d_y
"""
SHAPES = ("float32[2,3]", "float32[3,5]", "float32[5]")
PAIR = {"forward": "forward", "backward": "right"}
PICK = {"forward": "pick_forward", "backward": "pick_backward"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "rules.py").write_text(RULES)
    (folder / "neighbour.py").write_text("from rules import dense\n")
    (folder / "boom.py").write_text("import numpy\n\nnumpy.ones(3) + 'a'\n")
    (folder / "syntax.py").write_text("def f(:\n")
    (folder / "lacking.py").write_text("import not_there_at_all\n")
    (folder / "leaves.py").write_text("raise SystemExit(3)\n")
    return folder


def run(folder, *arguments):
    command = [sys.executable, "-m", "pipeline.verify", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_wrong_pair_is_explained_and_written(folder, tmp_path):
    html, data = tmp_path / "report.html", tmp_path / "report.json"
    rule = ("--forward", "rules:forward", "--backward", "rules:wrong")
    done = run(folder, "rules:dense", *rule, "--shapes", *SHAPES, "--html", str(html), "--json", str(data))
    assert done.returncode == 1, done.stderr
    assert "FAIL  dense" in done.stdout and "kernel: off by the constant 3" in done.stdout
    assert "FAIL: dense" in html.read_text(encoding="utf-8")
    found = json.loads(data.read_text(encoding="utf-8"))
    assert (found["verdict"], [diagnosis["leaf"] for diagnosis in found["diagnoses"]]) == ("fail", ["kernel"])


def test_a_right_custom_vjp_passes_on_several_devices(folder, tmp_path):
    data = tmp_path / "report.json"
    done = run(
        folder, "rules.py:attached", "--shapes", "float32[4,3]", *SHAPES[1:], "--devices", "2", "--json", str(data)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS  attached" in done.stdout and not done.stderr
    assert "devices" in {row["check"] for row in json.loads(data.read_text())["rows"]}


def test_a_mistake_is_a_message_and_no_traceback(folder):
    done = run(folder, "rules:dens", "--shapes", *SHAPES)
    assert done.returncode == 2
    assert done.stderr == "rules:dens: rules has no 'dens'; did you mean dense or Dense?\n"


def test_an_option_that_is_not_there(folder):
    done = run(folder, "rules:dense", "--refrence", "rules:dense")
    assert done.returncode == 2 and "--reference" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"html": Path("nowhere/report")}, "--html nowhere/report: there is no folder nowhere; create it first"),
        ({"json_file": Path("nowhere/report")}, "--json nowhere/report: there is no folder nowhere"),
        ({"html": Path("."), "json_file": Path("report")}, r"--html \.: this is a folder"),
        ({"devices": 0}, "--devices 0: there must be at least one"),
    ],
)
def test_options_are_looked_at_before_anything_is_done(options, message):
    with pytest.raises(UserError, match=message):
        verify_target("not_there_at_all:x", **options)


def test_every_rule_of_a_file(tmp_path):
    (tmp_path / "every_rule.py").write_text(EVERY_RULE)
    done = run(tmp_path, "every_rule.py", "--devices", "1", "--json", "reports.json")
    assert done.returncode == 1, done.stderr
    cells = [[cell.strip() for cell in line.split("│")[1:4]] for line in done.stdout.splitlines() if "│" in line]
    rows = {name: (verdict, said) for name, verdict, said in cells if name}
    verdicts = {"dense": "fail", "lookup": "pass", "sine": "pass", "nothing_fits": "not judged"}
    assert {name: verdict for name, (verdict, _) in rows.items()} == verdicts
    assert rows["dense"][1].startswith("kernel:") and "no arguments" in rows["nothing_fits"][1]
    assert [report["subject"] for report in json.loads((tmp_path / "reports.json").read_text())] == list(rows)[:3]


def request_of(folder, target, **options):
    """The request of these options, whose targets are names in ``rules.py``, or in the file before a colon."""
    place = lambda name: str(folder / (name if ":" in name else f"rules.py:{name}"))  # noqa: E731
    names: dict[str, Any] = {
        option: value if isinstance(value, tuple) else place(value) for option, value in options.items()
    }
    return Request(place(target), **names)


@pytest.fixture(autouse=True)
def settings_of_a_users_program(monkeypatch):
    """JAX's own settings, not the strict ones of our tests."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize(
    ("target", "options", "subject", "verdict"),
    [
        ("dense", {**PAIR, "arguments": "arguments"}, "dense", "pass"),
        ("dense", {**PAIR, "shapes": SHAPES, "edges": "edges"}, "dense", "pass"),
        ("Rules.dense", {**PAIR, "shapes": SHAPES}, "dense", "pass"),
        ("pick", {**PICK, "shapes": ("float32[4,3]", "int32[9]<4")}, "pick", "fail"),
        ("attached", {"shapes": SHAPES}, "attached", "pass"),
        ("wrongly_attached", {"shapes": SHAPES}, "wrongly_attached", "fail"),
        ("wrongly_attached", {"shapes": SHAPES, "reference": "dense"}, "wrongly_attached", "fail"),
        ("carries", {"shapes": SHAPES, "reference": "dense"}, "carries", "pass"),
        ("layer", {"shapes": ("float32[6,3]",)}, "Dense(features=4)", "pass"),
        ("report", {}, "dense", "pass"),
    ],
)
def test_what_a_target_names_decides_what_is_checked(folder, target, options, subject, verdict):
    found = request_of(folder, target, **options).report()
    assert (found.subject, found.verdict) == (subject, verdict), str(found)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("nothing.py:x", {}, "there is no file .*nothing.py"),
        ("boom.py:x", {}, r"boom.py cannot be imported: raised .*Error: .*\(boom.py, line 3\)"),
        ("syntax.py:x", {}, r"SyntaxError: .*\(syntax.py, line 1\)"),
        ("lacking.py:x", {}, r"No module named 'not_there_at_all' \(lacking.py, line 1\)"),
        ("leaves.py:x", {}, r"leaves.py cannot be imported: it exits \(3\)"),
        ("forwrd", {}, "has no 'forwrd'; did you mean forward"),
        ("Rules.dence", {}, "Rules has no 'dence'; did you mean dense"),
        ("zzz", {}, "has no 'zzz'; it has .*attached"),
        ("number", {}, "is an int; it must be a function"),
        ("Dense", {}, "is a class; name an instance of it"),
        ("dense", {}, "plain function.*--forward and --backward.*--reference.*--arguments or --shapes"),
        ("dense", {"shapes": SHAPES}, "plain function"),
        ("arguments", {}, "returns a list; .* must return a Report"),
        ("raises", {}, r"raised ValueError: on purpose \(rules.py, line \d+\)"),
        ("bare", {"shapes": SHAPES}, r"call dense.defvjp\(forward, backward\) first"),
        ("attached", {"shapes": SHAPES, "forward": "forward"}, "leave out --forward"),
        ("layer", {"shapes": ("float32[6,3]",), "reference": "dense"}, "leave out --reference"),
        ("dense", {"forward": "forward", "shapes": SHAPES}, "--forward .* needs --backward beside it"),
        ("dense", {"backward": "right", "shapes": SHAPES}, "--backward .* needs --forward beside it"),
        ("dense", {"forward": "number", "backward": "right", "shapes": SHAPES}, "--forward .* is an int"),
        ("dense", PAIR, "give --arguments or --shapes"),
        ("dense", {**PAIR, "arguments": "batch", "shapes": SHAPES}, "not both"),
        ("dense", {**PAIR, "arguments": "number"}, "--arguments .* is an int; it must be a tuple"),
        ("dense", {**PAIR, "arguments": "raises"}, r"raised ValueError: on purpose"),
        ("dense", {**PAIR, "shapes": SHAPES, "edges": "batch"}, "--edges .* a list of tuples of arguments"),
        ("dense", {**PAIR, "shapes": SHAPES[:2]}, r"does not accept .*float32\[3,5\]\).*missing 1 required.*'bias'"),
        (
            "dense",
            {**PAIR, "shapes": (*SHAPES[:2], "float32[4]")},
            r"does not accept the arguments of --shapes.*rules.py, line",
        ),
        ("layer", {"shapes": ("float32[]",)}, r"Dense\(features=4\) does not accept"),
    ],
)
def test_mistakes_in_the_command_line(folder, target, options, message):
    with pytest.raises(UserError, match=message):
        request_of(folder, target, **options).report()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("rules", "written module:name"),
        (":dense", "written module:name"),
        ("rules:", "written module:name"),
        ("not_there_at_all:x", "there is no module not_there_at_all"),
        ("json.nothing:x", "there is no module json.nothing"),
    ],
)
def test_targets_that_name_nothing(target, message):
    with pytest.raises(UserError, match=message):
        resolve(target)


def test_one_file_is_one_module(folder):
    assert resolve(f"{folder}/rules.py:dense") is resolve(f"{folder}/rules.py:dense")
    assert resolve(f"{folder}/neighbour.py:dense") is resolve(f"{folder}/rules.py:dense")


def test_drawn_arguments():
    x, ids, mask, z, scalar = draw(("bfloat16[300, 4]", "int8[500]<7", "bool[50]", "complex64[3]", "float32[]"), 0)
    assert (x.shape, x.dtype.name, x.min() < 0 < x.max()) == ((300, 4), "bfloat16", True)
    assert (ids.dtype, sorted(set(ids.tolist()))) == ("int8", list(range(7)))
    assert (mask.dtype, set(mask.tolist())) == (bool, {True, False})
    assert z.dtype == "complex64" and np.imag(z).any() and scalar.shape == ()
    one, other, again = (draw(("float32[5]", "float32[5]"), seed) for seed in (0, 1, 0))
    np.testing.assert_array_equal(one, again)
    assert len({array.tobytes() for array in (*one, *other)}) == 4


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("float32", "a shape is written"),
        ("float32[3,4", "a shape is written"),
        ("float32[-1]", "a shape is written"),
        ("float33[3]", "float33 is not a dtype"),
        ("str[3]", "not a dtype of numbers"),
        ("int32[3]", "give the upper bound"),
        ("int32[3]<0", "give the upper bound"),
        ("int8[3]<300", "the largest int8 is 127"),
        ("bool[3]<2", "leave out <2"),
    ],
)
def test_shapes_that_cannot_be_drawn(spec, message):
    with pytest.raises(UserError, match=message):
        draw((spec,), 0)
