"""By which library products are computed while learning."""

import pytest
import torch

from robot_rl import device
from robot_rl.device import fast_products, restore_generator

CPU = torch.device("cpu")


@pytest.mark.parametrize("exact", [True, False])
def test_onednn_is_asked_while_learning_where_it_is_exact(monkeypatch: pytest.MonkeyPatch, *, exact: bool) -> None:
    monkeypatch.setattr(device, "_onednn_is_exact", lambda: exact)
    seen: list[str] = []

    def learn_and_fail() -> None:
        with fast_products(CPU):
            seen.append(torch.get_float32_matmul_precision())
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        learn_and_fail()
    assert seen == ["medium" if exact else "highest"]
    assert torch.get_float32_matmul_precision() == "highest"


def test_what_the_user_chose_stays() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with fast_products(CPU):
            assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_products_are_as_exact_as_before() -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(2, 300, 300, generator=generator)
    exact = a.double() @ b.double()
    with fast_products(CPU):
        error = float((a @ b - exact).abs().max())
    assert error < 8 * float((a @ b - exact).abs().max())


def test_random_numbers_go_on_where_they_were() -> None:
    before, after = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    torch.rand(3, generator=before)
    restore_generator(after, before.get_state())
    assert torch.equal(torch.rand(3, generator=before), torch.rand(3, generator=after))


def test_those_of_a_gpu_begin_with_the_seed_on_a_cpu() -> None:
    generator, same = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    restore_generator(generator, torch.zeros(16, dtype=torch.uint8))  # what CUDA's generators save
    assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=same))
