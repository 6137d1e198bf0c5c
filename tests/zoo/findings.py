"""What is known to be wrong with the ports of the zoo: pair -> check -> finding, each read in the source."""

from foreign import Finding


def found(checks: str, first: str, cause: str, source: str, script: str) -> dict[str, Finding]:
    """One cause, which several checks see."""
    return {check: Finding(first, cause, source, script) for check in checks.split()}


def row(source: str) -> dict[str, Finding]:
    """The initial law of a dozen ports."""
    where = "the padding row of an embedding, is drawn by ours and zero in theirs"
    cause = "the padding's row of the embedding is drawn like all others; transformers keeps it zero"
    return found("init", where, cause, f"paddlenlp/transformers/{source}", "padding_row_drawn")


def learns(source: str) -> dict[str, Finding]:
    """The same row in training."""
    where = "row 0 alone is zero in theirs and not in ours"
    cause = "the embedding has no padding_idx, so the padding's row learns; with transformers it never does"
    return found("backward", where, cause, f"paddlenlp/transformers/{source}", "padding_row_drawn")


def undrawn(source: str) -> dict[str, Finding]:
    """Bloom and Falcon."""
    cause = "where a Linear has a bias, its weight is set to zeros instead of the bias"
    first = "h.0.self_attention.query_key_value.weight fixed entries"
    return found("init", first, cause, f"paddlenlp/transformers/{source}", "bloom_zero_weights")


def inverted(source: str) -> dict[str, Finding]:
    """Both Blenderbots."""
    cause = "the encoder multiplies the mask by -1e4 as it is: words are hidden, and the padding is attended to"
    first = "encoder.encoder.layers.0.self_attn.out_proj"
    forward = found("forward", first, cause, f"paddlenlp/transformers/{source}", "blenderbot_mask")
    return forward | found("backward", "batch/loss", cause, f"paddlenlp/transformers/{source}", "blenderbot_mask")


def nan(source: str, script: str) -> dict[str, Finding]:
    """Both DeBERTas."""
    cause = (
        "a query that is padding has no key left and its softmax is NaN, which the next layer carries into every word"
    )
    return found("forward backward", "ours holds nan", cause, f"paddlenlp/transformers/{source}", script)


def alarm(checks: str, first: str, cause: str) -> dict[str, Finding]:
    """A false alarm of ours: the port does not deserve it. Listed, for the test turns red when it is gone."""
    return found(checks, first, f"a false alarm: {cause}", "", "")


def named(source: str) -> dict[str, Finding]:
    """Both DeBERTas."""
    cause = "the hook is named init_weights where the library calls _init_weights: no weight is drawn as configured"
    first = "word_embeddings.weight law"
    return found("init", first, cause, f"paddlenlp/transformers/{source}", "deberta_init")


def llama(prefix: str) -> dict[str, Finding]:
    """Both Llamas."""
    infinite = "in float64 alone the mask's fill overflows in a float32 softmax, and left padding makes words NaN"
    scaled = "o_proj and down_proj are drawn narrower by sqrt(2 layers)"
    source = "paddlenlp/transformers/llama/modeling.py"
    return found("forward backward", "ours holds nan", infinite, f"{source}:1496", "llama_float64") | found(
        "init", f"{prefix}embed_tokens.weight: row 0", scaled, f"{source}:1408", "llama_init"
    )


def opt() -> dict[str, Finding]:
    """Both OPTs."""
    cause = "embeddings are dropped out; in transformers they are not"
    source = "paddlenlp/transformers/opt/modeling.py:587"
    return row("opt/modeling.py:782") | found(
        "dropout", "embeddings.dropout, rate 0 against 0.1", cause, source, "opt_embedding_dropout"
    )


def formers(initial: dict[str, Finding]) -> dict[str, Finding]:
    """PaddleFormers' decoders."""
    cause = "in float64 alone the mask's fill overflows in a float32 softmax, and left padding makes words NaN"
    source = "paddleformers/nn/attention/eager_attention.py:73"
    return found("forward backward", "ours holds nan", cause, source, "formers_float64") | initial


def formers_law(source: str) -> dict[str, Finding]:
    """No hook draws them."""
    cause = "the model has no hook of its own, and the embedding keeps the framework's law"
    return found("init", "embed_tokens.weight law", cause, source, "formers_embedding_init")


def formers_row(source: str) -> dict[str, Finding]:
    """Nor is the padding's row made zero."""
    cause = "the padding's row of the embedding is drawn like all others; transformers keeps it zero"
    return found("init", "the padding row of an embedding", cause, source, "formers_padding_row")


def unread(checks: str, first: str) -> dict[str, Finding]:
    """A divergence whose cause is not known yet."""
    return found(checks, first, "not read yet", "", "")


def drawn(first: str) -> dict[str, Finding]:
    """paddle.vision leaves its convolutions to the framework's law, and torchvision has one for each model."""
    cause = "convolutions keep Paddle's default law; torchvision draws them by one of its own"
    return found("init", f"{first} law", cause, "paddle/vision/models", "vision_initial_law")


UNSEEN = "its dropout is a function of its own, which is not counted"
SINGLE = "a gradient that is zero by algebra is the noise of a float32 softmax, and larger than float64's"

FINDINGS: dict[str, dict[str, Finding]] = {
    "bert": learns("bert/modeling.py:73") | row("bert/modeling.py:73"),
    "bert-qa": row("bert/modeling.py:73"),
    "bert-classes": row("bert/modeling.py:73"),
    "bert-tags": row("bert/modeling.py:73"),
    "bert-words": row("bert/modeling.py:73"),
    "roberta": learns("roberta/modeling.py:75") | row("roberta/modeling.py:299"),
    "roberta-classes": row("roberta/modeling.py:299")
    | found(
        "dropout",
        "rate 0 against 0.1",
        "features are dropped out twice before the head's first layer",
        "paddlenlp/transformers/roberta/modeling.py:785",
        "roberta_dropout",
    ),
    "roberta-qa": row("roberta/modeling.py:299"),
    "electra": row("electra/modeling.py:68"),
    "electra-classes": row("electra/modeling.py:68"),
    "distilbert": row("distilbert/modeling.py:49")
    | found(
        "dropout",
        "dropout1, rate 0 against 0.1",
        "what attention returns is dropped out; transformers adds it as it is",
        "paddlenlp/transformers/distilbert/modeling.py:281",
        "distilbert_dropout",
    ),
    "ernie": row("ernie/modeling.py:67"),
    "ernie-tags": row("ernie/modeling.py:67"),
    "convbert": row("convbert/modeling.py:386"),
    "nystromformer": row("nystromformer/modeling.py:506"),
    "squeezebert": row("squeezebert/modeling.py:53"),
    "mobilebert": found(
        "init",
        "word_embeddings.weight law",
        "embeddings keep the framework's own law: only Linear and norms are drawn",
        "paddlenlp/transformers/mobilebert/modeling.py:534",
        "mobilebert_embeddings",
    ),
    "megatronbert": found(
        "forward backward",
        "batch/",
        "the mask of ones and zeros is added to the scores as it is, and hides nothing",
        "paddlenlp/transformers/megatronbert/modeling.py:414",
        "megatronbert_mask",
    ),
    "layoutlm": row("layoutlm/modeling.py:133"),
    "roformer": row("roformer/modeling.py:67"),
    "mpnet": row("mpnet/modeling.py:263"),
    "fnet": found(
        "forward backward",
        "batch/",
        "fftn without axes runs over the batch's as well, so each row depends on all others",
        "paddlenlp/transformers/fnet/modeling.py:186",
        "fnet_batch",
    ),
    "nezha": row("nezha/modeling.py:219"),
    "ernie-m": row("ernie_m/modeling.py:57"),
    "deberta": nan("deberta/modeling.py:166", "deberta_nan")
    | named("deberta/modeling.py:782")
    | alarm("dropout", "rate 0.1 against 0", UNSEEN),
    "deberta-v2": nan("deberta_v2/modeling.py:51", "deberta_v2_nan")
    | named("deberta_v2/modeling.py:884")
    | alarm("dropout", "dropout rates", UNSEEN),
    "xlm": row("xlm/modeling.py:205") | alarm("backward", "k_lin.bias", SINGLE),
    "reformer": found(
        "init",
        "self_attention.query.weight law",
        "every Linear is drawn with axial_norm_std instead of initializer_range",
        "paddlenlp/transformers/reformer/modeling.py:2005",
        "reformer_init",
    ),
    "bigbird": found(
        "forward backward",
        "batch/",
        "attention_mask is not read: the padding's id alone hides a token",
        "paddlenlp/transformers/bigbird/modeling.py:380",
        "bigbird_mask",
    )
    | found(
        "init",
        "q_proj.weight law",
        "queries, keys and values are no nn.Linear, and the hook draws nothing else",
        "paddlenlp/transformers/attention_utils.py:141",
        "bigbird_init",
    ),
    "ctrl": alarm("init", "only ours has pos_encoding.weight", "a table that no gradient moves is no initial law"),
    "llama": llama(""),
    "llama-words": llama("llama."),
    "opt": opt(),
    "opt-words": opt()
    | found(
        "backward",
        "only ours has lm_head.decoder_weight",
        "the head has a matrix of its own, which learns apart from the embedding",
        "paddlenlp/transformers/opt/modeling.py:1033",
        "opt_untied_head",
    ),
    "t5": alarm("backward", "repeated ids/grad/", SINGLE),
    "t5-words": alarm("backward", "repeated ids/grad/", SINGLE),
    "mt5": alarm("backward", "repeated ids/grad/", SINGLE),
    "prophetnet": found(
        "forward backward",
        "batch/",
        "the predicting streams order heads before positions, transformers the other way round",
        "paddlenlp/transformers/prophetnet/modeling.py:664",
        "prophetnet_streams",
    )
    | found(
        "init",
        "word_embeddings.weight law",
        "embeddings keep the framework's own law: only Linear is drawn",
        "paddlenlp/transformers/prophetnet/modeling.py:139",
        "mobilebert_embeddings",
    ),
    "bloom": undrawn("bloom/modeling.py:662"),
    "bloom-words": undrawn("bloom/modeling.py:662"),
    "falcon": undrawn("rw/modeling.py:540"),
    "bart": row("bart/modeling.py:626"),
    "bart-classes": row("bart/modeling.py:626"),
    "mbart": row("mbart/modeling.py:374"),
    "pegasus": row("pegasus/modeling.py:334"),
    "blenderbot": inverted("blenderbot/modeling.py:168") | row("blenderbot/modeling.py:396"),
    "blenderbot-small": inverted("blenderbot_small/modeling.py:283") | row("blenderbot_small/modeling.py:396"),
    "formers-llama": formers(formers_law("paddleformers/transformers/llama/modeling.py:395")),
    "formers-llama-words": formers(formers_law("paddleformers/transformers/llama/modeling.py:395")),
    "formers-phi3": formers(formers_row("paddleformers/transformers/phi3/modeling.py:389")),
    "formers-phi3-words": formers(formers_row("paddleformers/transformers/phi3/modeling.py:389")),
    "formers-ernie4.5": formers(formers_row("paddleformers/transformers/ernie4_5/modeling.py:539")),
    "formers-ernie4.5-words": formers(formers_row("paddleformers/transformers/ernie4_5/modeling.py:539")),
    "formers-ernie4.5-groups": alarm(
        "forward backward", "batch/", "the map joins q, k and v whole; the port keeps them by key-value heads"
    )
    | formers_row("paddleformers/transformers/ernie4_5/modeling.py:539")
    | alarm("dropout", "nothing was compared", "as the forward pass"),
    "formers-gemma3": unread("forward backward", "batch/")
    | unread("dropout", "repeated ids/")
    | formers_law("paddleformers/transformers/gemma3_text/modeling.py:486"),
    "formers-gemma3-words": unread("forward backward", "batch/")
    | unread("decode", "token 1/logits")
    | formers_law("paddleformers/transformers/gemma3_text/modeling.py:486"),
    "resnet18": drawn("conv1.weight"),
    "mobilenet_v2": drawn("features.0.0.weight"),
    "vgg": drawn("0.weight"),
    "vgg-bn": drawn("0.weight"),
    "squeezenet1_1": found(
        "forward backward",
        "batch/",
        "the first convolution is padded, pooling rounds down, features are halved, and no ReLU follows the last",
        "paddle/vision/models/squeezenet.py:153",
        "squeezenet_padding",
    )
    | drawn("_conv.weight"),
    "mobilenet_v3_small": found(
        "forward backward",
        "mid_se",
        "hardsigmoid has a slope of 0.1666667 for 1/6, which is seen in float64 alone",
        "paddle/nn/functional/activation.py:hardsigmoid",
        "hardsigmoid_slope",
    )
    | drawn("conv.0.weight"),
    "shufflenet_v2_x0_5": unread("forward backward", "batch/")
    | unread("dropout", "nothing was compared")
    | drawn("_conv1.0.weight"),
    "alexnet": found(
        "forward backward",
        "batch/",
        "dropout scales down in evaluation: features are halved twice",
        "paddle/vision/models/alexnet.py:144",
        "dropout_downscales",
    ),
    "inception_v3": found(
        "forward backward",
        "batch/",
        "norms have an epsilon of 1e-5, torchvision's 1e-3",
        "paddle/vision/models/inceptionv3.py:58",
        "inception_epsilon",
    )
    | drawn("weight"),
}
