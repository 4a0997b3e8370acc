"""A pytest plugin: the fixture ``assert_gradients_agree``, and pages about the tests that it fails.

    def test_softmax(assert_gradients_agree):
        assert_gradients_agree(softmax, forward, backward, (x,))

``backhand.verify.assertion`` lists the arguments that it takes. With ``--gradient-report DIR`` each failing test writes
a page into that folder.
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
    group = parser.getgroup("backhand", "manual gradients against autodiff")
    group.addoption(
        "--gradient-report",
        metavar="DIR",
        help="Folder for one page about each test in which gradients do not agree.",
    )


@pytest.fixture
def assert_gradients_agree(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Fails the test, with the diagnosis as its message, unless a manual gradient agrees with autodiff.

    (function, forward, backward, arguments); (function, reference, arguments); (custom_vjp, arguments);
    (gradient, params, *data, loss=loss); (layer, params, x, context); each with the options of its check.
    """
    # The package has this name where it is installed, of which type checkers know nothing in a checkout.
    from backhand.verify.assertion import report_on  # pyright: ignore[reportMissingImports]
    from backhand.verify.report import VerificationError  # pyright: ignore[reportMissingImports]

    folder = request.config.getoption("--gradient-report")
    page_count = 0

    def check(*arguments: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        nonlocal page_count
        report = report_on(*arguments, **options)
        if report.ok:
            return report
        message = report.explanation()
        if folder is not None:
            page = _folder(request.config, folder) / _file_name(request.node.nodeid, page_count)
            report.to_html(page)
            page_count += 1
            message += f"\nfull report: {page}"
        raise VerificationError(message)

    return check


def _folder(config: pytest.Config, folder: str) -> Path:
    path = config.invocation_params.dir / folder
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        pytest.fail(f"--gradient-report {folder}: the folder cannot be created ({error})", pytrace=False)
    return path


def _file_name(test: str, page_count: int) -> str:
    """``tests/test_a.py::TestB::test_c[5]`` as ``tests.test_a.TestB.test_c[5].html``; a second page has a number."""
    path, _, name = test.partition("::")
    full = f"{path.removesuffix('.py').replace('/', '.')}.{name.replace('::', '.')}"
    safe = re.sub(r"[^\w.,=\[\]-]", "_", full)[-150:]
    if safe != full:  # two tests may differ only in the part that was lost
        safe += f"-{zlib.crc32(test.encode()):08x}"
    return f"{safe}{f'-{page_count + 1}' if page_count else ''}.html"
