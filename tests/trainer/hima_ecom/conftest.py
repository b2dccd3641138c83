import pytest

from trainer.hima_ecom import World


@pytest.fixture(scope="session")
def world() -> World:
    return World.in_memory(7)
