"""Fixtures of the hub tests: a local server and its repositories."""

import pytest
from helpers import served
from helpers.hub_server import Hub, Repository


@pytest.fixture(scope="module")
def repositories(tmp_path_factory) -> list[Repository]:
    return served.make_repositories(tmp_path_factory.mktemp("served"))


@pytest.fixture
def server(repositories):
    with Hub(repositories) as running:
        yield running
