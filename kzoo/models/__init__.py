"""The families. Importing this package registers them."""
from kzoo.models import gpt2  # noqa: F401
from kzoo.models.base import Backbone
from kzoo.models.gpt2 import GPT2Backbone, GPT2Config

__all__ = ["Backbone", "GPT2Backbone", "GPT2Config"]
