"""Both sides of every pair of the zoo are built and run, nothing compared: python tests/zoo/smoke.py [NAME ...]"""

import sys
import time
import warnings

import foreign_formers
import foreign_text
import foreign_vision


def run(build, batch, framework):
    """(number of parameters, what the model returns)."""
    if framework == "torch":
        import torch

        model = build().eval()
        tensor, quiet = torch.as_tensor, torch.no_grad
    else:
        import paddle

        model = build()
        model.eval()
        tensor, quiet = paddle.to_tensor, paddle.no_grad
    with quiet():
        if isinstance(batch, list):
            found = model(*map(tensor, batch))
        else:
            found = model(**{name: tensor(array) for name, array in batch.items()})
    return len(list(model.named_parameters())), shapes(found)


def shapes(found):
    if hasattr(found, "shape"):
        return tuple(found.shape)
    if isinstance(found, dict):
        return {name: shapes(one) for name, one in found.items()}
    if isinstance(found, list | tuple):
        return [shapes(one) for one in found]
    return type(found).__name__


def main(names):
    warnings.filterwarnings("ignore")
    for pair in foreign_formers.PAIRS if names == ["formers"] else [*foreign_text.PAIRS, *foreign_vision.PAIRS]:
        if names and names != ["formers"] and pair.name not in names:
            continue
        started = time.time()
        for side, build in (("torch", pair.theirs), ("paddle", pair.ours)):
            try:
                print(f"{pair.name:18} {side:7}", *run(build, pair.batch, side), flush=True)
            except Exception as error:
                print(f"{pair.name:18} {side:7} FAILS {type(error).__name__}: {str(error)[-300:]}", flush=True)
        print(f"{time.time() - started:.1f}s")


main(sys.argv[1:])
