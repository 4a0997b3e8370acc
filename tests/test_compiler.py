"""The compiler's options: where they come from, that they travel, and what becomes of a jaxlib that is wrong."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from pipeline import compiler
from pipeline.errors import UserError

ROOT = Path(__file__).parent.parent
YNN = "xla_cpu_experimental_ynn_fusion_type"


@pytest.fixture
def fresh():
    """``options`` found out anew, before and after."""
    compiler.options.cache_clear()
    yield
    compiler.options.cache_clear()


def outside(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs ``code`` in a process with XLA as users have it."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("version", "may_reduce"),
    [("0.10.2", False), ("0.11.0", False), ("0.11.1", True), ("0.11.2", True), ("0.12.0", True), ("0.12.0.1", True)],
)
def test_ynnpack_computes_products_and_reductions_where_these_are_right(version, may_reduce):
    (option,) = compiler.needed("cpu", version)
    assert option.name == YNN
    kinds = {kind.removeprefix("LIBRARY_FUSION_TYPE_") for kind in option.value.split(",")}
    assert kinds == {"DOT", "INDIVIDUAL_DOT"} | ({"REDUCE"} if may_reduce else set())


def test_a_reason_holds_from_its_first_jaxlib_to_the_one_that_mends_it():
    reason = compiler.Reason("a fault", "", since="0.10.2", fixed_in="0.11.1")
    versions = ("0.10.1", "0.10.2", "0.10.10", "0.11.0", "0.11.0.1", "0.11.1", "0.12.0.dev20261101")
    assert [reason.holds(version) for version in versions] == [False, True, True, True, True, False, False]


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_flags_say_what_options_say(platform):
    flags = compiler.recommended_flags(platform, "0.10.2")
    options = [option for option in compiler.OPTIONS if option.platform == platform and option.is_for("0.10.2")]
    assert flags == " ".join(f"--{option.name}={option.value}" for option in options)
    assert (flags == "") == (platform == "tpu")


@pytest.mark.parametrize("option", compiler.OPTIONS, ids=lambda option: f"{option.name} {option.since}")
def test_every_option_names_what_it_is_for(option):
    assert option.reasons and all(reason.fault for reason in option.reasons)
    issues = [reason.issue for reason in option.reasons if reason.issue]
    assert all(re.match(r"https://github\.com/jax-ml/jax/issues/\d+", issue) for issue in issues)


def test_the_flags_are_printed_and_xla_takes_them():
    printed = outside("import runpy; runpy.run_module('pipeline.compiler', run_name='__main__')")
    assert printed.returncode == 0, printed.stderr
    flags = printed.stdout.strip()
    assert flags.startswith(f"--{YNN}=")
    done = outside("import jax; print(jax.jit(lambda x: x + 1)(1.0))", XLA_FLAGS=flags)
    assert done.stdout == "2.0\n", done.stderr


def test_options_travel_with_the_function_whatever_the_environment_says():
    # With YNNPACK's reductions on, and that of jaxlib 0.10.2 wrong, what jit compiles is right all the same.
    code = (
        "import jax, jax.numpy as jnp\n"
        "from pipeline import compiler\n"
        "print(compiler.known_product_is_right(compiler.options()))\n"
        "print(compiler.jit(lambda x: x + 1).lower(1.0).compile() is not None)\n"
    )
    done = outside(code, XLA_FLAGS=f"--{YNN}=LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_DOT")
    assert done.stdout == "True\nTrue\n", done.stderr


@pytest.mark.skipif(not compiler.JAXLIB.startswith("0.10.2"), reason="only jaxlib 0.10.2 computes it wrong")
def test_the_known_product_is_wrong_without_the_options():
    done = outside("from pipeline import compiler; print(compiler.known_product_is_right({}))")
    assert done.stdout == "False\n", done.stderr


def test_a_wrong_jaxlib_that_the_options_do_not_help_is_refused(fresh, monkeypatch):
    monkeypatch.setattr(compiler, "JAXLIB", "0.10.2")
    monkeypatch.setattr(compiler, "known_product_is_right", lambda options: False)
    with pytest.raises(UserError, match=r"jaxlib 0\.10\.2 computes wrong numbers .*39103.*Install jaxlib 0\.11\.0"):
        compiler.jit(lambda x: x)


def test_a_right_jaxlib_is_not_tried(fresh, monkeypatch):
    monkeypatch.setattr(compiler, "JAXLIB", "0.12.0")
    monkeypatch.setattr(compiler, "known_product_is_right", lambda options: pytest.fail("it was"))
    assert YNN in compiler.options()


def test_an_old_jaxlib_is_refused(fresh, monkeypatch):
    monkeypatch.setattr(compiler, "JAXLIB", "0.10.1")
    with pytest.raises(UserError, match=r"0\.10\.1 is older than 0\.10\.2"):
        compiler.options()


def test_what_only_xla_flags_can_set_is_asked_for(fresh, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(compiler, "JAXLIB", "0.11.0")
    with pytest.warns(RuntimeWarning, match="scatter-add.*XLA_FLAGS='--xla_backend_extra_options=-nvptx"):
        assert compiler.options() == {}
    compiler.options.cache_clear()
    monkeypatch.setenv("XLA_FLAGS", compiler.recommended_flags("gpu", "0.11.0"))
    with warnings.catch_warnings(action="error"):
        assert compiler.options() == {}


def test_xla_takes_the_flags_under_which_tests_compile_quickly():
    flags = compiler.quick_flags()
    done = outside("import jax; print(jax.jit(lambda x: x + 1)(1.0))", XLA_FLAGS=flags)
    assert done.stdout == "2.0\n", done.stderr


def test_what_runs_once_computes_the_same():
    x = jnp.linspace(0, 1, 7)
    assert compiler.jit_once(jnp.sin)(x).tolist() == pytest.approx(compiler.jit(jnp.sin)(x).tolist(), rel=1e-12)


def test_each_jaxlib_has_its_own_quick_flags():
    # jaxlib 0.12 ends a process that is given a flag which it no longer knows.
    assert "fusion_emitters" in compiler.quick_flags("0.11.2") and "fusion_emitters" not in compiler.quick_flags(
        "0.12.0"
    )


def test_jit_takes_what_jax_jit_takes():
    add = compiler.jit(lambda x, n: x + n, static_argnums=1)
    assert add(jnp.ones(2), 3).tolist() == [4, 4]


def test_programs_are_kept_for_the_next_process_and_a_broken_one_is_compiled_again(tmp_path, monkeypatch):
    for name, value in {"ENABLE_COMPILATION_CACHE": "true", "PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}.items():
        monkeypatch.setenv(f"JAX_{name}", value)
    monkeypatch.setattr(compiler, "_cache_folder", lambda: tmp_path / "programs")
    names = (
        *("jax_enable_compilation_cache", compiler.CACHE_FOLDER),
        *(*compiler.CACHE_EVERY_PROGRAM, *compiler.KEPT_PROGRAMS),
    )
    before = {name: getattr(jax.config, name) for name in names}

    def program(x):
        return jnp.sin(x) @ jnp.cos(x)

    def entries():
        return sorted((tmp_path / "programs").glob("jit_program-*-cache"))

    try:
        jax.config.update("jax_enable_compilation_cache", True)  # which conftest.py turns off
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        compiler.keep_programs()
        assert getattr(jax.config, "jax_compilation_cache_max_size") == 2**30  # noqa: B009
        y = compiler.jit(program)(jnp.ones(7))
        (entry,) = entries()
        whole = entry.read_bytes()
        jax.clear_caches()
        assert compiler.jit(program)(jnp.ones(7)) == y and entries() == [entry]
        entry.write_bytes(whole[: len(whole) // 2])
        jax.clear_caches()
        with pytest.warns(UserWarning, match="Error reading persistent compilation cache entry"):
            assert compiler.jit(program)(jnp.ones(7)) == y
    finally:
        compiler._configure(before)


def test_no_programs_are_kept_where_jax_is_told_so(monkeypatch):
    monkeypatch.setattr(compiler, "_configure", lambda settings: pytest.fail("it was"))
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
    compiler.keep_programs()
