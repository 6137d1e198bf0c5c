"""Greedy decoding: the same tokens from both, and from ours the same with a cache as from the whole sequence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..compare import Alignment
from ..explain.products import proven
from .batches import DECODED, MASKS
from .outputs import flattened

TOKENS = 10
"""How many are decoded; pull requests of the field show ten."""
IDS, MASK = "input_ids", "attention_mask"

Run = Callable[[Mapping[str, Any]], Mapping[str, np.ndarray]]
"""batch -> outputs by label."""


def unlabelled(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch as it is when a model decodes: without labels, which do not grow with the tokens, nor padding."""
    given = {name: value for name, value in batch.items() if "label" not in name}
    return {
        name: np.ones_like(value) if name in MASKS and value is not None else value for name, value in given.items()
    }


def which(outputs: Mapping[str, np.ndarray], batch: Mapping[str, Any], vocabulary: int | None) -> str | None:
    """The label of the logits over the vocabulary for every token of the batch; None where there are none."""
    name = DECODED if DECODED in batch else IDS
    ids = batch.get(name)
    if not isinstance(ids, np.ndarray) or ids.ndim != 2 or vocabulary is None:
        return None
    return next((label for label, a in outputs.items() if a.shape == (*ids.shape, vocabulary)), None)


def looks_ahead(run: Run, batch: Mapping[str, Any], label: str) -> bool:
    """Whether the logits of a token depend on the tokens after it: then nothing can be decoded with them."""
    name = DECODED if DECODED in batch else IDS
    other = batch[name].copy()
    other[:, -1] = other[:, 0] if (other[:, 0] != other[:, -1]).all() else (other[:, -1] + 1) % (other.max() + 1)
    plain, changed = (run({**batch, name: ids})[label][:, :-1] for ids in (batch[name], other))
    return not np.allclose(plain, changed, rtol=1e-4, atol=1e-6)


def greedy(alignment: Alignment, theirs: Run, ours: Run, batch: Mapping[str, Any], label: str) -> np.ndarray:
    """Decode with both; each is given the reference's tokens so far, so that one early difference stays one.

    A token is held to be equal where the gap between the reference's two highest logits is more than twice the
    difference of the logits; a nearer race is told, and its logits are compared all the same.

    Returns:
        (B, T + TOKENS) the reference's tokens.
    """
    name = DECODED if DECODED in batch else IDS
    given, sure, total, differ = dict(batch), 0, 0, 0
    for k in range(TOKENS):
        their_logits, our_logits = (run(given)[label][:, -1] for run in (theirs, ours))  # (B, V)
        certain = proven(their_logits, our_logits)
        chosen, mine = their_logits.argmax(-1), our_logits.argmax(-1)
        alignment.add(f"token {k + 1}/logits", their_logits, our_logits)
        if certain.any():
            alignment.add(f"token {k + 1}", chosen[certain], mine[certain], exact=True)
        sure, total = sure + int(certain.sum()), total + certain.size
        differ += int((chosen != mine)[~certain].sum())
        given = longer(given, name, chosen)
    alignment.notes.append(
        f"{sure} of {total} greedy tokens are proven by their gap"
        + (f", {differ} of the others differ" if differ else "")
    )
    return np.asarray(given[name])


def longer(batch: Mapping[str, Any], name: str, chosen: np.ndarray) -> dict[str, Any]:
    """The batch with one token more in every row; what lies along the tokens grows with them."""
    tokens, made = batch[name].shape[1], dict(batch)
    made[name] = np.concatenate([batch[name], chosen[:, None].astype(batch[name].dtype)], axis=1)
    prefix = "decoder_" if name == DECODED else ""
    for key, fill in ((f"{prefix}{MASK}", 1), (f"{prefix}position_ids", tokens), ("token_type_ids", 0)):
        array = batch.get(key)
        if isinstance(array, np.ndarray) and array.shape[:2] == batch[name].shape and (not prefix or prefix in key):
            column = np.full((len(array), 1), fill, array.dtype)
            made[key] = np.concatenate([array, column], axis=1)
    return made


CACHES = ("past_key_values", "cache")
"""What the two libraries call the keys and values that are kept between tokens, as an argument and as an output."""


def cached(driver: Any, model: Any, ids: np.ndarray) -> np.ndarray | str:
    """Logits of every token, one token at a time with a cache.

    Args:
        ids: (B, T) integers.

    Returns:
        (B, T, V), or why it cannot be done: the model takes no cache by a name that is known here.
    """
    taken = inspect.signature(model.forward).parameters
    name = next((one for one in CACHES if one in taken), None)
    if name is None or "use_cache" not in taken:
        return f"its forward takes no {' or '.join(CACHES)} with use_cache"
    given: dict[str, Any] = {"use_cache": True, **({"return_dict": True} if "return_dict" in taken else {})}
    logits = []
    model.eval()
    with driver.no_gradients(), driver.computing():
        for t in range(ids.shape[1]):
            given[IDS] = driver.tensor(ids[:, t : t + 1])
            if MASK in taken:
                given[MASK] = driver.tensor(np.ones((len(ids), t + 1), ids.dtype))
            if (
                "position_ids" in taken
            ):  # some ports count from 0 whatever the cache holds, and are told when they generate
                given["position_ids"] = driver.tensor(np.full((len(ids), 1), t, ids.dtype))
            output = model(**given)
            logits.append(driver.to_numpy(next(tensor for _, tensor in flattened(output, driver.Tensor)))[:, -1])
            given[name] = _kept(output, name)
            if given[name] is None:
                return f"it returns no {name}"
    return np.stack(logits, axis=1)


def _kept(output: Any, name: str) -> Any:
    """The cache in an output, by its name or in second place of a tuple."""
    if isinstance(output, (tuple, list)) and not hasattr(output, name):
        return output[1] if len(output) > 1 else None
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
