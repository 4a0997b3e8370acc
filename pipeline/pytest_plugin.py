"""For other people's tests: the fixture ``assert_gradients_agree``, and pages about what failed.

    def test_softmax(assert_gradients_agree):
        assert_gradients_agree(softmax, forward, backward, (x,))

What it takes is said in ``pipeline.verify.assertion``. With ``--gradient-report DIR`` each failing test leaves a page
there.
"""

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# pytest loads this module before any conftest.py: JAX, and what is built on it, is imported when a test asks for it, so
# that a conftest may configure JAX first.


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("backhand", "gradients by hand against autodiff")
    group.addoption(
        "--gradient-report",
        metavar="DIR",
        help="the folder for a page about each test in which gradients do not agree, named after the test",
    )


@pytest.fixture
def assert_gradients_agree(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Fails the test, with the diagnosis as its message, unless a hand-written derivative is that of autodiff.

    (function, forward, backward, arguments); (function, reference, arguments); (custom_vjp, arguments);
    (gradient, params, *data, loss=loss); (layer, params, x, context); each with the options of its check.
    """
    from pipeline.verify.assertion import report_on
    from pipeline.verify.report import VerificationError

    folder = request.config.getoption("--gradient-report")
    written = 0

    def check(*given: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        nonlocal written
        report = report_on(*given, **options)
        if report.ok:
            return report
        message = report.explanation()
        if folder is not None:
            page = _folder(request.config, folder) / _file_name(request.node.nodeid, written)
            report.to_html(page)
            written += 1
            message += f"\nthe whole report: {page}"
        raise VerificationError(message)

    return check


def _folder(config: pytest.Config, folder: str) -> Path:
    path = config.invocation_params.dir / folder
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        pytest.fail(f"--gradient-report {folder}: the folder cannot be made ({error})", pytrace=False)
    return path


def _file_name(test: str, written: int) -> str:
    """``tests/test_a.py::TestB::test_c[5]`` as ``tests.test_a.TestB.test_c[5].html``; a second page has a number."""
    path, _, name = test.partition("::")
    shown = f"{path.removesuffix('.py').replace('/', '.')}.{name.replace('::', '.')}"
    safe = re.sub(r"[^\w.,=\[\]-]", "_", shown)[-150:]
    if safe != shown:  # what was lost may be all that tells two tests apart
        safe += f"-{zlib.crc32(test.encode()):08x}"
    return f"{safe}{f'-{written + 1}' if written else ''}.html"
