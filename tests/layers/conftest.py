"""What tests of layers share with those of models."""
from tests.models.conftest import gradients

__all__ = ["gradients"]
