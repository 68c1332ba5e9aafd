"""The code cache of these tests is a folder of their own, empty at the start."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def private_code_cache(tmp_path_factory):
    before = os.environ.get("POLYCONV_CACHE_DIR")
    os.environ["POLYCONV_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["POLYCONV_CACHE_DIR"]
    else:
        os.environ["POLYCONV_CACHE_DIR"] = before
