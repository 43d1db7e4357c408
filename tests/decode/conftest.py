"""What several tests of the decoder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from limbnet.decode import compiled


@pytest.fixture(scope="module", params=["compiled", "numpy"])
def both_decoders(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a module's tests with the decoder's compiled steps and again with NumPy's."""
    wanted = request.param == "compiled"
    if wanted and not compiled.in_use:
        pytest.skip("the decoder's C part was not built: there was no C compiler when limbnet was installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "in_use", wanted)
        yield
