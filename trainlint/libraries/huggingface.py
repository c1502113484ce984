"""transformers, accelerate, diffusers, sentence-transformers, datasets."""

from trainlint.core.facts import Certainty, Mode
from trainlint.libraries.spec import (
    Factory,
    Harmless,
    Operation,
    Role,
    SchedulerClass,
    Spec,
    Table,
)

_NOT_MODELS: dict[str, Spec] = {}
for _name in (
    "AutoTokenizer AutoConfig AutoProcessor AutoFeatureExtractor AutoImageProcessor"
    " BertTokenizer BertTokenizerFast GPT2Tokenizer GPT2TokenizerFast LlamaTokenizer T5Tokenizer"
    " T5TokenizerFast RobertaTokenizer RobertaTokenizerFast CLIPTokenizer CLIPProcessor"
    " CLIPImageProcessor BertConfig GPT2Config LlamaConfig T5Config PreTrainedTokenizer"
    " PreTrainedTokenizerFast GenerationConfig WhisperProcessor Wav2Vec2Processor"
).split():
    _NOT_MODELS[f"transformers.{_name}.from_pretrained"] = Harmless()

_COLLATORS = (
    "DefaultDataCollator DataCollatorWithPadding DataCollatorWithFlattening"
    " DataCollatorForLanguageModeling DataCollatorForMultipleChoice"
    " DataCollatorForPermutationLanguageModeling DataCollatorForSOP DataCollatorForSeq2Seq"
    " DataCollatorForTokenClassification DataCollatorForWholeWordMask"
).split()
"""They ask the model, if they get it, for the inputs of its decoder alone."""

_HEADS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForImageClassification",
    "ForAudioClassification",
    "ForMultipleChoice",
    "ForSemanticSegmentation",
)
_HEAD_ARGUMENTS = ("num_labels", "id2label", "label2id")
_TRAINED_HEADS = tuple(
    "imdb sst mnli nli sentiment finetun fine-tun squad emotion -ner conll toxic reward cola qqp"
    " mrpc detect classif textattack cardiffnlp rerank zero-shot formality hate spam"
    " cross-encoder".split()
)
_PIXELS = (
    "ForImageClassification",
    "ForMaskedImageModeling",
    "ForSemanticSegmentation",
    "ForObjectDetection",
    "ForVideoClassification",
    "ForDepthEstimation",
    "ViTModel",
    "SwinModel",
    "DeiTModel",
    "BeitModel",
    "Dinov2Model",
    "CLIPVisionModel",
    "ConvNextModel",
)

_TASKS = (
    "CausalLM MaskedLM PreTraining Seq2SeqLM ConditionalGeneration SequenceClassification"
    " TokenClassification QuestionAnswering MultipleChoice ImageClassification AudioClassification"
    " SemanticSegmentation ObjectDetection MaskedImageModeling VideoClassification CTC"
).split()
_TRANSFORMERS = (
    r"(?!TF|Flax|Auto|PreTrained|DataCollator|\w*(?:EncoderDecoder|DualEncoder))"
    rf"[A-Z]\w*(?:Model|For(?:{'|'.join(_TASKS)}))"
)
_DIFFUSERS = r"UNet\w+|AutoencoderKL|VQModel|ControlNetModel|\w*Transformer\dDModel"

_ENCODERS = ("", "sentence_transformer.", "cross_encoder.", "sparse_encoder.")
"""Where sentence-transformers keeps losses and evaluators."""

HUGGINGFACE = Table(
    calls={
        **_NOT_MODELS,
        "accelerate.Accelerator": Role("accelerator", keeps=(("gradient_accumulation_steps", 3),)),
        "lightning.Fabric": Role("accelerator"),
        "lightning.fabric.Fabric": Role("accelerator"),
        "lightning.pytorch.Fabric": Role("accelerator"),
        "lightning_fabric.Fabric": Role("accelerator"),
        "transformers.set_seed": Harmless(),
        "transformers.pipeline": Harmless(),
        **{f"transformers.{name}": Harmless() for name in _COLLATORS},
        **{
            f"transformers.{prefix}{name}": SchedulerClass()
            for prefix in ("", "optimization.")
            for name in (
                "get_scheduler get_linear_schedule_with_warmup get_cosine_schedule_with_warmup"
                " get_constant_schedule get_constant_schedule_with_warmup"
                " get_polynomial_decay_schedule_with_warmup"
                " get_cosine_with_hard_restarts_schedule_with_warmup get_inverse_sqrt_schedule"
            ).split()
        },
        "diffusers.optimization.get_scheduler": SchedulerClass(),
        "sentence_transformers.SentenceTransformer": Factory(Mode.EVAL, Certainty.UNKNOWN),
        "diffusers.training_utils.EMAModel": Role("ema"),
        "accelerate.utils.set_seed": Harmless(),
        "accelerate.notebook_launcher": Operation("spawn", "function"),
    },
    not_models=(
        "Tokenizer",
        "TokenizerFast",
        "Config",
        "Processor",
        "FeatureExtractor",
        "Scheduler",
        "ImageProcessorFast",
    ),
    methods=(
        (
            "transformers.",
            "from_pretrained",
            Factory(
                Mode.EVAL,
                heads=_HEADS,
                head_arguments=_HEAD_ARGUMENTS,
                trained_heads=_TRAINED_HEADS,
                pixels=_PIXELS,
            ),
        ),
        ("transformers.", "from_config", Factory(Mode.TRAIN)),
        ("transformers.", "_from_config", Factory(Mode.TRAIN)),
        ("diffusers.", "from_pretrained", Factory(Mode.EVAL)),
        ("diffusers.", "from_config", Factory(Mode.TRAIN)),
    ),
    constructors=(
        ("transformers", _TRANSFORMERS, Factory(Mode.TRAIN, pretrained=False)),
        ("diffusers", _DIFFUSERS, Factory(Mode.TRAIN, pretrained=False)),
        *((f"sentence_transformers.{place}losses", r"[A-Z]\w+", Harmless()) for place in _ENCODERS),
        *(
            (f"sentence_transformers.{place}evaluation", r"[A-Z]\w+", Role("evaluator"))
            for place in _ENCODERS
        ),
    ),
    aliases=(
        ("transformers.trainer.Trainer", "transformers.Trainer"),
        ("accelerate.accelerator.Accelerator", "accelerate.Accelerator"),
        ("transformers.optimization.AdamW", "transformers.AdamW"),
    ),
    module_bases=(
        "transformers.PreTrainedModel",
        "transformers.modeling_utils.PreTrainedModel",
        "diffusers.ModelMixin",
        "diffusers.models.ModelMixin",
    ),
)
