"""torch_side.py: what is read out of a .bin, and what of a damaged or strange one."""

import numpy as np
import pytest
import torch

from splinter.align.torch_side import UnsafeFile, read_bin

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}
COMPLEX = torch.complex(torch.arange(2.0), torch.ones(2))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_file_cut_anywhere_is_refused(tmp_path, zipped):
    """
    At every byte: one line that names the file, or the numbers that were saved.
    """
    torch.save(TENSORS, tmp_path / "whole.bin", _use_new_zipfile_serialization=zipped)
    whole, refusals = (tmp_path / "whole.bin").read_bytes(), []
    for count in range(len(whole) + 1):
        (tmp_path / "cut.bin").write_bytes(whole[:count])
        try:
            found = read_bin(tmp_path / "cut.bin")
        except UnsafeFile as error:
            refusals.append(str(error))
            continue
        assert found.keys() == TENSORS.keys()
        assert all(np.array_equal(found[name], tensor.numpy()) for name, tensor in TENSORS.items())
    assert len(refusals) >= len(whole) - 8  # what is behind the numbers may be missing
    assert all("cut.bin is refused" in line and "\n" not in line for line in refusals)


@pytest.mark.parametrize(
    ("tensor", "right"),
    [(COMPLEX.conj(), [-1j, 1 - 1j]), (COMPLEX.conj().imag, [-1.0, -1.0])],
    ids=["conjugate", "negated"],
)
def test_what_is_conjugated_on_paper_is_so_in_fact(tmp_path, tensor, right):
    """
    torch keeps a bit instead of the numbers; they come back with the bit applied.
    """
    torch.save({"w": tensor}, tmp_path / "w.bin")
    assert read_bin(tmp_path / "w.bin")["w"].tolist() == right


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(1)]), "nested float32"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(1)], layout=torch.jagged), "nested float32"),
        (lambda: torch.eye(2).to_sparse(), "sparse_coo float32"),
        (lambda: torch.eye(2).to("meta"), "strided float32 on meta"),
        (lambda: torch.eye(2).bfloat16(), "strided bfloat16"),
        (lambda: torch.eye(2).to(torch.float8_e4m3fn), "strided float8_e4m3fn"),
    ],
    ids=["nested", "jagged", "sparse", "meta", "bfloat16", "float8"],
)
def test_what_numpy_lacks_is_refused_by_name(tmp_path, make, kind):
    """
    The line has the name of the tensor, its controls escaped, and its kind.
    """
    torch.save({"w\x9b": make()}, tmp_path / "w.bin")
    with pytest.raises(UnsafeFile, match=rf"w\.bin is refused: .*'w\\x9b' is {kind}.*convert it to float32"):
        read_bin(tmp_path / "w.bin")
