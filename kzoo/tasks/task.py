"""What all task models share: a backbone, a tokenizer, saving by config."""
import keras

from kzoo.registry import families, get_task_class


class Task(keras.Model):
    """A backbone with what it predicts.

    Args:
        backbone: the family's backbone.
        tokenizer: a `kzoo.tokenizers.Tokenizer`, or None for a model of token ids alone.
    """

    task = None

    def __init__(self, backbone, tokenizer=None, **kwargs):
        kwargs.setdefault("dtype", backbone.dtype_policy)
        super().__init__(**kwargs)
        self.backbone = backbone
        self.tokenizer = tokenizer
        self._decoder = None

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
        self.built = True

    def build_from_config(self, config):
        self.build(None)  # shapes follow from the backbone's config alone

    def get_config(self):
        return {"backbone": keras.saving.serialize_keras_object(self.backbone), "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "backbone": keras.saving.deserialize_keras_object(config["backbone"])})


def build_task(family, config, task=None, **kwargs):
    """A fresh, built model of `family` for `task` (its first task when None)."""
    task = task or family.tasks[0]
    cls = get_task_class(task, family)
    dtype = kwargs.pop("dtype", None)
    model = cls(family.backbone(config, dtype=dtype), **kwargs)
    model.build()
    return model
