"""Very long and very fast answers in a real kernel: the cell is updated now and then, and its output stays small."""

import json
import time

import pytest

FRAME = 0.05  # seconds between two updates, at least


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("".join(f"{number} " for number in range(100_000)), id="100,000 deltas"),
        pytest.param(f"{'x' * 9_999} " * 5_000, id="50 MB"),
    ],
)
def test_g6_a_flood_makes_few_updates_and_little_output_and_the_kernel_works(kernel, stub_model, text):
    stub_model.says(text)

    began = time.monotonic()
    cell = kernel.run("%%piano\ngo")
    took = time.monotonic() - began
    after = kernel.run("len(_.content)")

    sizes = [len(json.dumps(bundle)) for bundle in cell.updates]
    assert cell.status == "ok"
    assert len(sizes) <= took / FRAME + 2
    assert max(sizes) < 100_000
    assert sum(len(json.dumps(each)) for each in cell.shown) < 2_500_000
    assert after.text == str(len(text))
