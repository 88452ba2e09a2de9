"""What all task models share: a backbone, a tokenizer, saving by config, answers to text."""
import keras

from kzoo.models.base import check_inputs
from kzoo.registry import families, get_task_class
from kzoo.tasks.answering import TextModel, holds_text
from kzoo.tasks.answers import answer
from kzoo.tasks.live_answers import LiveRun


class Task(keras.Model):
    """A backbone with what it predicts.

    A task writes `head`; one whose inputs or answers are of another kind writes `call` and `answer` as well.

    Args:
        backbone: the family's backbone.
        tokenizer: a `kzoo.tokenizers.Tokenizer`, or None for a model of token ids alone.
        task: what it shall do, one of `tasks`; None means the first.

    Attributes:
        tasks: what the class can serve.
        output_name: what its output is called where outputs have names, unless it is a dict.
        setting_names: arguments of the class that are saved with the model, such as labels; each is an attribute.
        newly_initialized: paths of the variables that a checkpoint had no tensor for.
    """

    tasks = ()
    output_name = "logits"
    setting_names = ()

    def __init__(self, backbone, tokenizer=None, task=None, **kwargs):
        kwargs.setdefault("dtype", backbone.dtype_policy)
        super().__init__(**kwargs)
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.task = task or self.tasks[0]
        self.newly_initialized = ()
        self._decoder = None
        self._run = None

    def __call__(self, *args, **kwargs):
        """Tensors go the way of every Keras model; text is answered with text, see `answer`."""
        if holds_text(args, kwargs):
            return self.answer(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def head(self, hidden_states, inputs, training=None):
        """The task's outputs from the backbone's hidden states (B, T, E) and the inputs it was given."""
        raise NotImplementedError(f"{type(self).__name__} must define `head`.")

    def forward(self, inputs, cache=None, training=None):
        """(outputs, cache); see `Backbone.forward`."""
        hidden_states, cache = self.backbone.forward(self.backbone.complete_inputs(inputs, self.task), cache, training)
        return self.head(hidden_states, inputs, training), cache

    def call(self, inputs, training=None):
        return self.forward(check_inputs(inputs), training=training)[0]

    def answer(self, *inputs, **options):
        """The task's answer to a text, or to each of a list of texts; what `model("text")` gives.

        Inputs, options and answers are those of the task's function in `kzoo.tasks.answers`.
        """
        if self._run is None:
            self._run = LiveRun(self)
        model = TextModel(self._run, self.tokenizer, self.config.max_sequence_length,
                          getattr(self.config, "num_segments", 0), self.settings())
        return answer(self.task, model, *inputs, **options)

    def settings(self):
        """name -> plain value of what is saved with the model besides the config."""
        return {name: getattr(self, name) for name in self.setting_names}

    @property
    def config(self):
        """The family's config."""
        return self.backbone.config

    @property
    def family(self):
        """The registered family of the backbone."""
        for family in families().values():
            if type(self.backbone) is family.backbone:
                return family
        raise ValueError(f"{type(self.backbone).__name__} is the backbone of no registered family; see "
                         "`kzoo.registry.register`.")

    def build(self, input_shape=None):
        if not self.backbone.built:
            self.backbone.build(input_shape)
        self.build_head()
        self.built = True

    def build_head(self):
        """Make the variables of what the task adds to the backbone."""

    def build_from_config(self, config):
        self.build(None)  # shapes follow from the backbone's config alone

    def get_config(self):
        return {"backbone": keras.saving.serialize_keras_object(self.backbone), "name": self.name, "task": self.task,
                **self.settings()}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "backbone": keras.saving.deserialize_keras_object(config["backbone"])})


def build_task(family, config, task=None, dtype=None, **kwargs):
    """A fresh, built model of `family` for `task` (its first task when None)."""
    task = task or family.tasks[0]
    cls = get_task_class(task, family)
    config = config.replace(**family.task_fields.get(task, {}))
    model = cls(family.backbone(config, dtype=dtype), task=task, **kwargs)
    model.build()
    return model
