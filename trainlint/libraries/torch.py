"""torch, torchvision and timm."""

import re

from trainlint.core.facts import Certainty, Cut, Mode
from trainlint.libraries.spec import (
    Activation,
    BackwardFunction,
    Clip,
    Context,
    Copy,
    Creates,
    Cuts,
    DropoutFunction,
    Factory,
    Harmless,
    Layer,
    LossClass,
    LossFunction,
    Operation,
    OptimizerClass,
    Packs,
    Reshape,
    Role,
    Same,
    ScalerClass,
    SchedulerClass,
    Spec,
    Table,
    Wrapper,
)

_PLAIN = Layer()
_FREE = Layer(parametric=False)
_LINEAR = Layer(activation="none")
_PASSING = Layer(parametric=False, activation="same")
_SENSITIVE = Layer(sensitive=True)
_BATCH_NORM = Layer(
    sensitive=True, unless_false="track_running_stats", weights_unless_false="affine"
)
_INSTANCE_NORM = Layer(sensitive=True, only_if="track_running_stats", weights_only_if="affine")
_DROPOUT = Layer(sensitive=True, parametric=False, unless_zero="p")
_RECURRENT = Layer(sensitive=True, unless_zero="dropout", only_if="dropout")

_LAYERS: dict[str, Spec] = {
    "torch.nn.Sequential": Layer(parametric=False, container=True),
    "torch.nn.ModuleList": Layer(parametric=False, container=True),
    "torch.nn.ModuleDict": Layer(parametric=False, container=True),
    "torch.nn.ParameterList": Layer(container=False),
    "torch.nn.ParameterDict": Layer(container=False),
    "torch.nn.Identity": _PASSING,
    "torch.nn.Flatten": _PASSING,
    "torch.nn.Unflatten": _PASSING,
    "torch.nn.Linear": _LINEAR,
    "torch.nn.Bilinear": _LINEAR,
    "torch.nn.LazyLinear": _LINEAR,
    "torch.nn.Embedding": _PLAIN,
    "torch.nn.EmbeddingBag": _PLAIN,
    "torch.nn.LayerNorm": Layer(weights_unless_false="elementwise_affine"),
    "torch.nn.GroupNorm": Layer(weights_unless_false="affine"),
    "torch.nn.RMSNorm": Layer(weights_unless_false="elementwise_affine"),
    "torch.nn.LocalResponseNorm": _FREE,
    "torch.nn.PReLU": _PLAIN,
    "torch.nn.Conv1d": _LINEAR,
    "torch.nn.Conv2d": _LINEAR,
    "torch.nn.Conv3d": _LINEAR,
    "torch.nn.ConvTranspose1d": _LINEAR,
    "torch.nn.ConvTranspose2d": _LINEAR,
    "torch.nn.ConvTranspose3d": _LINEAR,
    "torch.nn.Dropout": _DROPOUT,
    "torch.nn.Dropout1d": _DROPOUT,
    "torch.nn.Dropout2d": _DROPOUT,
    "torch.nn.Dropout3d": _DROPOUT,
    "torch.nn.AlphaDropout": _DROPOUT,
    "torch.nn.FeatureAlphaDropout": _DROPOUT,
    "torch.nn.BatchNorm1d": _BATCH_NORM,
    "torch.nn.BatchNorm2d": _BATCH_NORM,
    "torch.nn.BatchNorm3d": _BATCH_NORM,
    "torch.nn.LazyBatchNorm1d": _BATCH_NORM,
    "torch.nn.LazyBatchNorm2d": _BATCH_NORM,
    "torch.nn.LazyBatchNorm3d": _BATCH_NORM,
    "torch.nn.SyncBatchNorm": _BATCH_NORM,
    "torch.nn.InstanceNorm1d": _INSTANCE_NORM,
    "torch.nn.InstanceNorm2d": _INSTANCE_NORM,
    "torch.nn.InstanceNorm3d": _INSTANCE_NORM,
    "torch.nn.RNN": _RECURRENT,
    "torch.nn.LSTM": _RECURRENT,
    "torch.nn.GRU": _RECURRENT,
    "torch.nn.RNNCell": _PLAIN,
    "torch.nn.LSTMCell": _PLAIN,
    "torch.nn.GRUCell": _PLAIN,
    "torch.nn.MultiheadAttention": Layer(sensitive=True, unless_zero="dropout", only_if="dropout"),
    "torch.nn.Transformer": Layer(sensitive=True, unless_zero="dropout"),
    "torch.nn.TransformerEncoder": _SENSITIVE,
    "torch.nn.TransformerDecoder": _SENSITIVE,
    "torch.nn.TransformerEncoderLayer": Layer(sensitive=True, unless_zero="dropout"),
    "torch.nn.TransformerDecoderLayer": Layer(sensitive=True, unless_zero="dropout"),
    "torch.nn.RReLU": Layer(sensitive=True, parametric=False),
    "torch.nn.ReLU": Layer(parametric=False, activation="relu"),
    "torch.nn.Sigmoid": Layer(parametric=False, activation="sigmoid"),
    "torch.nn.Softmax": Layer(parametric=False, activation="softmax"),
    "torch.nn.LogSoftmax": Layer(parametric=False, activation="log_softmax"),
}
for _name in (
    "ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish ReLU6 SELU"
    " CELU SiLU Softmax2d Softmin Softplus Softshrink Softsign Tanh Tanhshrink Threshold"
    " AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d"
    " AdaptiveMaxPool3d AvgPool1d AvgPool2d AvgPool3d MaxPool1d MaxPool2d MaxPool3d MaxUnpool2d"
    " Upsample UpsamplingNearest2d UpsamplingBilinear2d PixelShuffle PixelUnshuffle ZeroPad2d"
    " ReflectionPad1d ReflectionPad2d ReplicationPad1d ReplicationPad2d ConstantPad1d ConstantPad2d"
    " CosineSimilarity PairwiseDistance Fold Unfold ChannelShuffle"
).split():
    _LAYERS[f"torch.nn.{_name}"] = _FREE

_LOSSES: dict[str, Spec] = {}
for _name, _kind in (
    ("CrossEntropyLoss", "cross_entropy"),
    ("NLLLoss", "nll"),
    ("BCELoss", "bce"),
    ("BCEWithLogitsLoss", "bce_with_logits"),
    *(
        (name, "")
        for name in (
            "MSELoss L1Loss SmoothL1Loss HuberLoss KLDivLoss CTCLoss CosineEmbeddingLoss"
            " HingeEmbeddingLoss MarginRankingLoss MultiLabelMarginLoss MultiLabelSoftMarginLoss"
            " MultiMarginLoss PoissonNLLLoss GaussianNLLLoss SoftMarginLoss TripletMarginLoss"
            " TripletMarginWithDistanceLoss AdaptiveLogSoftmaxWithLoss"
        ).split()
    ),
):
    _LOSSES[f"torch.nn.{_name}"] = LossClass(_kind)
for _name, _kind in (
    ("cross_entropy", "cross_entropy"),
    ("nll_loss", "nll"),
    ("binary_cross_entropy", "bce"),
    ("binary_cross_entropy_with_logits", "bce_with_logits"),
    *(
        (name, "")
        for name in (
            "mse_loss l1_loss smooth_l1_loss huber_loss kl_div ctc_loss cosine_embedding_loss"
            " hinge_embedding_loss margin_ranking_loss multilabel_margin_loss"
            " multilabel_soft_margin_loss multi_margin_loss poisson_nll_loss gaussian_nll_loss"
            " soft_margin_loss triplet_margin_loss triplet_margin_with_distance_loss"
        ).split()
    ),
):
    _LOSSES[f"torch.nn.functional.{_name}"] = LossFunction(_kind)

_OPTIMIZERS: dict[str, Spec] = {}
for _name in (
    "torch.optim.{Adadelta,Adafactor,Adagrad,Adam,Adamax,AdamW,ASGD,Muon,NAdam,Optimizer,RAdam"
    ",RMSprop,Rprop,SGD,SparseAdam}"
)[len("torch.optim.{") : -1].split(","):
    _OPTIMIZERS[f"torch.optim.{_name}"] = OptimizerClass()
_OPTIMIZERS["torch.optim.LBFGS"] = OptimizerClass(closure=True)
for _path in (
    "apex.optimizers.FusedAdam",
    "apex.optimizers.FusedLAMB",
    "apex.optimizers.FusedSGD",
    "bitsandbytes.optim.Adam8bit",
    "bitsandbytes.optim.AdamW8bit",
    "bitsandbytes.optim.PagedAdamW8bit",
    "bitsandbytes.optim.Lion8bit",
    "deepspeed.ops.adam.DeepSpeedCPUAdam",
    "deepspeed.ops.adam.FusedAdam",
    "lion_pytorch.Lion",
    "prodigyopt.Prodigy",
    "timm.optim.AdamP",
    "timm.optim.AdamW",
    "timm.optim.Lamb",
    "timm.optim.Lookahead",
    "timm.optim.RAdam",
    "torch_optimizer.RAdam",
    "torch_optimizer.Ranger",
    "transformers.AdamW",
    "transformers.Adafactor",
    "transformers.optimization.AdamW",
    "transformers.optimization.Adafactor",
):
    _OPTIMIZERS[_path] = OptimizerClass()

_SCHEDULERS: dict[str, Spec] = {
    f"torch.optim.lr_scheduler.{name}": SchedulerClass()
    for name in (
        "LambdaLR MultiplicativeLR StepLR MultiStepLR ConstantLR LinearLR ExponentialLR"
        " PolynomialLR CosineAnnealingLR CyclicLR OneCycleLR CosineAnnealingWarmRestarts"
    ).split()
}
_SCHEDULERS["torch.optim.lr_scheduler.ReduceLROnPlateau"] = SchedulerClass(warns=False)
_SCHEDULERS["torch.optim.lr_scheduler.SequentialLR"] = SchedulerClass()
_SCHEDULERS["torch.optim.lr_scheduler.ChainedScheduler"] = SchedulerClass("schedulers", False)

_GRAD: dict[str, Spec] = {
    "torch.no_grad": Context("no_grad"),
    "torch.inference_mode": Context("inference_mode"),
    "torch.enable_grad": Context("enable_grad"),
    "torch.is_grad_enabled": Operation("is_grad_enabled"),
    "torch.set_grad_enabled": Context("set_grad_enabled", statement_works=True),
    "torch.autocast": Context("neutral"),
    "torch.amp.autocast": Context("neutral"),
    "torch.cuda.amp.autocast": Context("neutral"),
    "torch.cpu.amp.autocast": Context("neutral"),
    "torch.autograd.detect_anomaly": Context("neutral"),
    "torch.autograd.set_detect_anomaly": Context("neutral", statement_works=True),
    "torch.autograd.profiler.profile": Context("neutral"),
    "torch.profiler.profile": Context("neutral"),
    "torch.cuda.device": Context("neutral"),
    "torch.cuda.stream": Context("neutral"),
    "torch.backends.cuda.sdp_kernel": Context("neutral"),
    "torch.nn.attention.sdpa_kernel": Context("neutral"),
    "torch.amp.GradScaler": ScalerClass(),
    "torch.cuda.amp.GradScaler": ScalerClass(),
    "torch.nn.utils.clip_grad_norm_": Clip(),
    "torch.nn.utils.clip_grad_norm": Clip(),
    "torch.nn.utils.clip_grad_value_": Clip(),
    "torch.nn.utils.get_total_norm": Harmless(),
    "torch.autograd.backward": BackwardFunction(),
    "torch.autograd.grad": BackwardFunction(fills=False),
    "torch.utils.checkpoint.checkpoint": Operation("checkpoint", "function"),
}

_TENSORS: dict[str, Spec] = {
    "torch.tensor": Cuts(Cut.REBUILT),
    "torch.Tensor": Cuts(Cut.REBUILT),
    "torch.FloatTensor": Cuts(Cut.REBUILT),
    "torch.from_numpy": Cuts(Cut.NUMPY),
    **{
        f"torch.{name}": Creates()
        for name in (
            "randn rand randint randperm zeros ones full empty arange linspace eye bernoulli normal"
            " randn_like rand_like randint_like zeros_like ones_like full_like empty_like"
        ).split()
    },
    "torch.nn.utils.rnn.pack_padded_sequence": Packs(),
    "torch.nn.utils.rnn.pack_sequence": Packs(),
    "torch.argmax": Cuts(Cut.COMPARISON),
    "torch.nn.functional.one_hot": Cuts(Cut.COMPARISON),
    "torch.argsort": Cuts(Cut.COMPARISON),
    "torch.eq": Cuts(Cut.COMPARISON),
    "builtins.float": Cuts(Cut.ITEM),
    "builtins.int": Cuts(Cut.ITEM),
    "torch.softmax": Activation("softmax"),
    "torch.log_softmax": Activation("log_softmax"),
    "torch.sigmoid": Activation("sigmoid"),
    "torch.relu": Activation("relu"),
    "torch.nn.functional.softmax": Activation("softmax"),
    "torch.nn.functional.log_softmax": Activation("log_softmax"),
    "torch.nn.functional.sigmoid": Activation("sigmoid"),
    "torch.nn.functional.relu": Activation("relu"),
    **{
        f"torch.{name}": Reshape()
        for name in (
            "squeeze unsqueeze flatten unflatten reshape ravel transpose permute movedim swapaxes"
        ).split()
    },
    "torch.nn.functional.interpolate": Reshape(),
    "torch.nn.functional.upsample": Reshape(),
    **{
        f"torch.nn.functional.{name}": DropoutFunction()
        for name in "dropout dropout1d dropout2d dropout3d".split()
    },
    "torch.nn.functional.scaled_dot_product_attention": DropoutFunction(
        "dropout_p", 4, "", -1, 0.0
    ),
    "torch.nn.functional.multi_head_attention_forward": DropoutFunction(
        "dropout_p", 10, "training", 13
    ),
    "flash_attn.flash_attn_func": DropoutFunction("dropout_p", 3, "", -1, 0.0),
    "flash_attn.flash_attn_qkvpacked_func": DropoutFunction("dropout_p", 1, "", -1, 0.0),
    "flash_attn.flash_attn_kvpacked_func": DropoutFunction("dropout_p", 2, "", -1, 0.0),
    "flash_attn.flash_attn_varlen_func": DropoutFunction("dropout_p", 7, "", -1, 0.0),
    **{
        f"torch.nn.utils.{name}": Same()
        for name in (
            "weight_norm spectral_norm remove_weight_norm remove_spectral_norm"
            " parametrizations.weight_norm parametrizations.spectral_norm"
            " parametrizations.orthogonal parametrize.register_parametrization"
        ).split()
    },
    "torch.save": Harmless(),
    "torch.jit.save": Harmless(),
    "torch.autograd.Variable": Same(ungraphed="volatile"),
    "torch.jit.script": Same(),
    "torch.save_state_dict": Harmless(),
    "torch.compile": Wrapper("compile", "model", "_orig_mod"),
    "torch.nn.DataParallel": Wrapper("dp"),
    "torch.nn.parallel.DistributedDataParallel": Wrapper("ddp"),
    "torch.nn.parallel.DataParallel": Wrapper("dp"),
    "torch.distributed.fsdp.FullyShardedDataParallel": Wrapper("fsdp"),
    "torch.distributed.fsdp.fully_shard": Wrapper("fsdp2", keeps_object=True),
    "torch.distributed._composable.fsdp.fully_shard": Wrapper("fsdp2", keeps_object=True),
    "torch.nn.SyncBatchNorm.convert_sync_batchnorm": Same(),
    "apex.parallel.convert_syncbn_model": Same(),
    "apex.parallel.DistributedDataParallel": Wrapper("ddp"),
    "copy.deepcopy": Copy(),
    "torch.optim.swa_utils.AveragedModel": Operation("average", "model"),
    "torch.optim.swa_utils.update_bn": Harmless(),
    "torch.nn.utils.parameters_to_vector": Harmless(),
    "torch.utils.data.DataLoader": Role(
        "loader", (("dataset", 0), ("shuffle", 2), ("sampler", 3), ("batch_sampler", 4))
    ),
    "torch.utils.data.distributed.DistributedSampler": Role(
        "distributed_sampler", (("dataset", 0), ("shuffle", 3))
    ),
    "torch.utils.data.DistributedSampler": Role(
        "distributed_sampler", (("dataset", 0), ("shuffle", 3))
    ),
    "torch.utils.data.BatchSampler": Role("batch_sampler", (("sampler", 0),)),
    "torch.nn.Parameter": Operation("parameter", "data"),
    "torch.nn.parameter.Parameter": Operation("parameter", "data"),
    "torch.func.functional_call": Operation("functional_call", "module"),
    "torch.nn.init.xavier_uniform_": Harmless(),
    "torch.multiprocessing.spawn": Operation("spawn", "fn"),
    "torch.load": Operation("load", "f"),
    "apex.amp.initialize": Operation("same_all", "models"),
    "deepspeed.initialize": Operation("engine"),
    "apex.amp.scale_loss": Operation("scale_loss", "loss"),
    "apex.amp.master_params": Operation("master_params", "optimizer"),
}

ACTIVATION_METHODS = {
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "sigmoid": "sigmoid",
    "relu": "relu",
}
"""Methods of a tensor that are activations."""

CLASS_LOSSES = frozenset(("CrossEntropyLoss", "NLLLoss"))
"""Losses whose targets are classes or their shares: no graph comes from them."""

INDEXED_METHODS = frozenset(
    "gather index_select masked_select take_along_dim sum mean logsumexp norm std var".split()
)
"""Methods whose arguments are sizes, dimensions, indices or masks: no graph is in them."""
RESHAPE_METHODS = frozenset(
    """to cuda cpu float half double squeeze unsqueeze view reshape flatten contiguous clone permute
    transpose view_as reshape_as unflatten type movedim
    """.split()
)
"""Methods of a tensor that leave its values as they are."""

_SEGMENTATION = (
    "Unet|UnetPlusPlus|MAnet|Linknet|FPN|PSPNet|PAN|DeepLabV3|DeepLabV3Plus|UPerNet|Segformer|DPT"
)
"""What segmentation_models_pytorch makes models of; its losses and epochs are none."""
_TIMM = Factory(
    Mode.TRAIN, head_arguments=("num_classes",), stock_heads=(0, 1000, 11221, 11821, 21841, 21843)
)
"""ImageNet-1k, -12k and -21k in their versions; 0 is a model without a head."""

HEADS = (
    (
        "fc",
        re.compile(r"torchvision\.models\.(\w+\.)?(resne[xt]t?|wide_|incep|googl|shuff|regnet)"),
    ),
    (
        "classifier",
        re.compile(
            r"torchvision\.models\.(\w+\.)?(vgg|alex|dense|mobile|effic|squeeze|mnas|convn)"
        ),
    ),
    ("heads", re.compile(r"torchvision\.models\.(\w+\.)?vit")),
    ("head", re.compile(r"torchvision\.models\.(\w+\.)?swin")),
)
"""The attribute whose output is that of a classifier of torchvision, as their sources have it."""

TORCH = Table(
    calls={**_LAYERS, **_LOSSES, **_OPTIMIZERS, **_SCHEDULERS, **_GRAD, **_TENSORS},
    methods=(("torch.hub", "load", Factory()),),
    constructors=(
        ("torchvision.models", "transforms|get_state_dict|list_models|get_weight", Harmless()),
        ("segmentation_models_pytorch", _SEGMENTATION, Factory(Mode.TRAIN, Certainty.YES)),
    ),
    prefixes=(
        ("torchvision.models.", Factory(Mode.TRAIN, Certainty.YES)),
        ("timm.create_model", _TIMM),
        ("timm.models.create_model", _TIMM),
        ("segmentation_models_pytorch.create_model", Factory(Mode.TRAIN, Certainty.YES)),
        ("segmentation_models_pytorch.encoders.get_encoder", Factory(Mode.TRAIN, Certainty.YES)),
        ("efficientnet_pytorch.EfficientNet.", Factory(Mode.TRAIN, Certainty.YES)),
        ("torch.nn.init.", Harmless()),
    ),
    aliases=(
        ("torch.optim.adam.Adam", "torch.optim.Adam"),
        ("torch.optim.adamw.AdamW", "torch.optim.AdamW"),
        ("torch.optim.sgd.SGD", "torch.optim.SGD"),
        ("torch.nn.modules", "torch.nn"),
        ("torch.nn.utils.clip_grad.clip_grad_norm_", "torch.nn.utils.clip_grad_norm_"),
        ("torch.cuda.amp.grad_scaler.GradScaler", "torch.cuda.amp.GradScaler"),
        ("torch.cuda.amp.autocast_mode.autocast", "torch.cuda.amp.autocast"),
        (
            "torch.nn.parallel.distributed.DistributedDataParallel",
            "torch.nn.parallel.DistributedDataParallel",
        ),
        (
            "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel",
            "torch.distributed.fsdp.FullyShardedDataParallel",
        ),
        ("torch.utils.data.dataloader.DataLoader", "torch.utils.data.DataLoader"),
        ("torch.nn.functional.tanh", "torch.tanh"),
        ("flash_attn.flash_attn_interface", "flash_attn"),
        ("torch.autograd.no_grad", "torch.no_grad"),
        ("torch.autograd.grad_mode.no_grad", "torch.no_grad"),
        ("torch.autograd.enable_grad", "torch.enable_grad"),
        ("torch.autograd.set_grad_enabled", "torch.set_grad_enabled"),
    ),
    module_bases=("torch.nn.Module", "torch.nn.modules.module.Module", "torch.jit.ScriptModule"),
)
