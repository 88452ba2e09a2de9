"""What tests of tasks share with those of models."""
from tests.models.conftest import gradients

__all__ = ["gradients"]
