"""The worker of the conformance run that builds whole packages and calls their libraries."""

from __future__ import annotations

from functools import partial

from tests.conformance.worker import judge
from tests.sweep.worker import serve

if __name__ == "__main__":
    serve(partial(judge, as_package=True))
