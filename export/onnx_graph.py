"""Clean-ups of a converted ONNX graph, with onnx-ir."""
from onnx_ir.passes import common


def clean(model):
    """Drop what does nothing: unused nodes and initializers, identities, repeated subexpressions."""
    common.IdentityEliminationPass()(model)
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
