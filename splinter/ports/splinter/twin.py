"""Splinter in torch: `transformers`' classes unmodified, a twin of the authors' code, and the backend of its tasks.

`hf`: SplinterForQuestionAnswering / SplinterForPreTraining of the installed transformers (4.57 or 5).
`paper`: the authors' model (oriram/splinter finetuning/modeling.py at 1df4c13; pretraining/, TensorFlow)
written from its description on transformers' BertModel, because the original needs transformers 2.9.
The proof holds the Paddle model against either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BertConfig, BertModel, SplinterForPreTraining, SplinterForQuestionAnswering
from transformers.activations import ACT2FN

from splinter.align import torch_side
from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.common.torch.train import TorchBackend, TorchTrainer
from splinter.ports.common.training.schedule import Recipe

from . import config as configs
from .config import SplinterConfig

FILL = -10000.0
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TASKS = {"answering": SplinterForQuestionAnswering, "pretraining": SplinterForPreTraining}


class Transform(nn.Module):
    """Dense, activation, LayerNorm; the epsilon is torch's default in fine-tuning."""

    def __init__(self, width: int, act: str, eps: float):
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.act = ACT2FN[act]
        self.LayerNorm = nn.LayerNorm(width, eps=eps)

    def forward(self, x):
        return self.LayerNorm(self.act(self.dense(x)))


class Head(nn.Module):
    """Question-aware span selection; the two matrices are bare parameters used as Q @ M."""

    def __init__(self, config: SplinterConfig):
        super().__init__()
        width, std = config.hidden_size, config.initializer_range
        for part in ("query_start", "query_end", "start", "end"):
            setattr(self, f"{part}_transform", Transform(width, config.hidden_act, config.head_layer_norm_eps))
        self.start_classifier = nn.Parameter(torch.empty(width, width))
        self.end_classifier = nn.Parameter(torch.empty(width, width))
        for name, parameter in self.named_parameters():
            if "LayerNorm" not in name and not name.endswith("bias"):
                nn.init.normal_(parameter, std=std)
            elif name.endswith("dense.bias"):
                nn.init.zeros_(parameter)

    def forward(self, x, positions):
        rows = torch.arange(x.shape[0], device=x.device).unsqueeze(-1)
        questions = x[rows, positions]  # (B, Q, D)
        parts = [
            (self.query_start_transform(questions), self.start_classifier, self.start_transform(x)),
            (self.query_end_transform(questions), self.end_classifier, self.end_transform(x)),
        ]
        # logits are in the hundreds, where neighbours in bfloat16 are nats apart: they stay in float32 under autocast
        with torch.autocast(x.device.type, enabled=False):
            start, end = (
                q.to(m.dtype) @ m @ t.to(m.dtype).transpose(1, 2)  # (B, Q, T)
                for q, m, t in parts
            )
        return start, end


class PaperSplinter(nn.Module):
    """Encoder, head and the two ways of calling them; names of the authors' checkpoints."""

    def __init__(self, config: SplinterConfig):
        super().__init__()
        self.config = config
        values = {k: v for k, v in config.to_dict().items() if hasattr(BertConfig(), k)}
        self.bert = BertModel(BertConfig(**values, attn_implementation="eager"), add_pooling_layer=False)
        if config.span_head == "plain":
            # a start and an end score of each token, as transformers' models for question answering have it
            self.qa_outputs = nn.Linear(config.hidden_size, 2)
            nn.init.normal_(self.qa_outputs.weight, std=config.initializer_range)
            nn.init.zeros_(self.qa_outputs.bias)
        else:
            self.cls = nn.ModuleDict({"span_predictions": Head(config)})

    def encode(self, ids, mask, positions=None):
        """States (B, T, D). BertModel's own forward would fill with the dtype's minimum instead of -10000."""
        x = self.bert.embeddings(input_ids=ids, position_ids=positions)
        additive = (1.0 - mask.to(x.dtype))[:, None, None, :] * FILL
        return self.bert.encoder(x, attention_mask=additive).last_hidden_state

    def score(self, states, mask, positions):
        if self.config.span_head == "plain":
            with torch.autocast(states.device.type, enabled=False):  # in float32, as the scores of the other head
                scores = self.qa_outputs(states.to(self.qa_outputs.weight.dtype)).transpose(1, 2)  # (B, 2, T)
            start, end = scores.split(1, dim=1)  # (B, 1, T) each, of any question
        else:
            start, end = self.cls["span_predictions"](states, positions)  # (B, Q, T) each
        fill = ((1.0 - mask.to(states.dtype)) * FILL).unsqueeze(1)
        return start + fill, end + fill

    def answer(self, ids, mask):
        """Fine-tuning: [SEP] masked, [MASK] read as the question token, the first question token asks."""
        mask = mask.masked_fill(ids == self.config.sep_token_id, 0)
        ids = ids.masked_fill(ids == self.config.mask_token_id, self.config.question_token_id)
        positions = (ids == self.config.question_token_id).int().argmax(-1, keepdim=True)
        start, end = self.score(self.encode(ids, mask), mask, positions)
        return start.squeeze(1), end.squeeze(1)

    def pretrain(self, ids, mask, positions):
        """Pretraining: holes take no position, [SEP] is attended."""
        return self.score(self.encode(ids, mask, mask.cumsum(-1) - mask), mask, positions)


def paper_loss(start, end, start_positions, end_positions):
    """Cross entropy of fine-tuning; labels clamped to [0, T], T ignored."""
    ignored = start.size(1)
    rule = nn.CrossEntropyLoss(ignore_index=ignored)
    labels = [labels.clamp(0, ignored) for labels in (start_positions, end_positions)]
    return (rule(start, labels[0]) + rule(end, labels[1])) / 2


def load(
    folder: Path,
    mode: str,
    task: str = "answering",
    dropout: bool | float = False,
    fresh: bool = False,
    head: str = "pretrained",
):
    """A model in evaluation mode with the weights of a checkpoint in the layout of transformers.

    Args:
        dropout: True keeps the rates of the configuration; or the rate of all.
        fresh: leave the weights as the initialiser makes them.
        head: "fresh" leaves only the head so.
    """
    changes = {} if dropout is True else dict.fromkeys(NO_DROPOUT, float(dropout))
    config, tensors, _ = configs.read_checkpoint(folder, mode=mode, **changes)
    if mode == "hf":
        values = {"attn_implementation": "eager", **changes}
        kind = TASKS[task]
        if fresh:
            their_config = kind.config_class.from_pretrained(folder, **values)
            return kind(their_config).eval()
        model = kind.from_pretrained(folder, **values).eval()
        if head == "fresh":
            model.splinter_qass.apply(model._init_weights)
        return model
    if task == "pretraining":  # the authors' TensorFlow graph: BERT's gelu and the epsilon of its layer_norm
        config = replace(config.with_questions(), hidden_act="gelu_pytorch_tanh", head_layer_norm_eps=1e-12)
    model = PaperSplinter(config)
    if not fresh:
        links = configs.weight_map("authors").links_from(dict(model.named_parameters()))
        stored = {link.ours: link for link in configs.weight_map("transformers").links(k.ours for k in links.values())}
        for name, parameter in model.named_parameters():
            if head == "fresh" and links[name].ours.startswith("cls."):
                continue
            source = stored[links[name].ours]
            array = tensors[source.theirs]
            with torch.no_grad():
                parameter.copy_(
                    torch.from_numpy(array.T.copy() if links[name].transpose != source.transpose else array)
                )
    return model.eval()


def forward(model: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Start and end logits of a batch, with the padding filled."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    positions = batch.get("question_positions")
    if isinstance(model, PaperSplinter):
        start, end = model.answer(ids, mask) if positions is None else model.pretrain(ids, mask, positions)
    else:
        # an integer mask times a float gives torch's default dtype: in a float64 model the fill, finfo.min,
        # would overflow float32 and turn the logits into nan
        mask = mask.to(model.dtype)
        out = model(
            input_ids=ids, attention_mask=mask, token_type_ids=batch["token_type_ids"], question_positions=positions
        )
        start, end = out.start_logits, out.end_logits
    return {"start_logits": start, "end_logits": end}


class _Scores(nn.Module):
    """Stands in for the head so that transformers' own loss code runs on injected logits."""

    def __init__(self, start, end):
        super().__init__()
        self.logits = (start, end)

    def forward(self, states, positions):
        start, end = self.logits
        return (start.unsqueeze(1), end.unsqueeze(1)) if start.dim() == 2 else (start, end)


class _Nothing(nn.Module):
    """Stands in for the encoder: the states are never looked at."""

    def forward(self, input_ids, **kwargs):
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=input_ids.new_zeros((*input_ids.shape, 1), dtype=torch.float32))


def transformers_loss(model: Any, start, end, labels: Mapping[str, torch.Tensor], **more: torch.Tensor) -> torch.Tensor:
    """transformers' own loss of given logits, reached by putting them in place of the head."""
    encoder, head = model.splinter, model.splinter_qass
    try:
        model.splinter, model.splinter_qass = _Nothing(), _Scores(start, end)
        ids = torch.zeros((start.shape[0], start.shape[-1]), dtype=torch.long)
        # transformers clamps labels in place: hand it copies, the batch is used again
        return model(input_ids=ids, **{name: label.clone() for name, label in labels.items()}, **more).loss
    finally:
        model.splinter, model.splinter_qass = encoder, head


def labels_of(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The labels of a batch."""
    return {name: batch[name] for name in ("start_positions", "end_positions")}


def loss(model: Any, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The reference's own loss of given logits."""
    start, end = outputs["start_logits"], outputs["end_logits"]
    if isinstance(model, PaperSplinter):
        return paper_loss(start, end, **labels_of(batch))
    return transformers_loss(model, start, end, labels_of(batch))


def decayed(names: Iterable[str]) -> list[str]:
    """The rule of the authors' and transformers' scripts: neither `bias` nor `LayerNorm.weight` in the name."""
    return [name for name in names if "bias" not in name and "LayerNorm.weight" not in name]


def widened(outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Logits of a forward pass in bfloat16 as float32: the loss adds up hundreds of exponentials."""
    return {n: t.float() if t.dtype == torch.bfloat16 else t for n, t in outputs.items()}


class Asked(TorchBackend):
    """What answering and pretraining share of a backend: logits on request, weights in the layout of transformers."""

    def stored(self, model: Any) -> Mapping[str, np.ndarray]:
        theirs = configs.weight_map("authors" if isinstance(model, PaperSplinter) else "transformers")
        state = super().stored(model)
        links = theirs.links_from(state)
        ours = {links[n].ours: a.T if links[n].transpose else a for n, a in state.items()}
        return dict(configs.weight_map("transformers").revert(ours))

    @torch.no_grad()
    def logits(
        self, model: nn.Module, columns: Mapping[str, np.ndarray], batch_size: int = 16
    ) -> tuple[np.ndarray, np.ndarray]:
        first = next(model.parameters())
        dtype = str(first.dtype).removeprefix("torch.")
        start, end = [], []
        model.eval()
        with torch_side.float64_softmax():
            for begin in range(0, len(columns["input_ids"]), batch_size):
                rows = {name: column[begin : begin + batch_size] for name, column in columns.items()}
                tensors = {n: t.to(first.device) for n, t in torch_side.from_numpy(rows, dtype).items()}
                out = forward(model, tensors)
                start.append(out["start_logits"].cpu().numpy())
                end.append(out["end_logits"].cpu().numpy())
        return np.concatenate(start), np.concatenate(end)


class Backend(Asked):
    """See `tasks.Backend`."""

    def open_model(self, folder: Path, mode: str, head: str, device: str = "auto", repeated: bool = False) -> Any:
        _, tensors, layout = configs.read_checkpoint(folder)
        if layout != "transformers":
            raise CheckpointError(
                f"{folder} is in the authors' layout, which torch cannot open; run splinter convert first"
            )
        found = configs.has_head(tensors)
        kind = {"auto": "pretrained" if found else "fresh"}.get(head, head)
        if kind == "pretrained" and not found:
            raise CheckpointError(f"{folder} holds no question-aware span selection head; use --head fresh")
        model = load(folder, mode, dropout=True, head=kind)
        model.head = kind
        return self.placed(model, device)

    def trainer(self, model: nn.Module, recipe: Recipe, precision: str = "float32") -> TorchTrainer:
        def objective(model, batch):
            return loss(model, widened(forward(model, batch)), batch)

        # transformers' loss leaves a label beyond the window out of its mean: a part of the rows has no fixed share
        twin = isinstance(model, PaperSplinter)
        names = decayed([n for n, _ in model.named_parameters()])
        return TorchTrainer(model, objective, recipe, names, precision, mean_of_rows=twin)


BACKEND = Backend()
