"""Which operators of a TFLite file the two delegates of phones would leave to the plain kernels.

A hint by kind of operator and type of result; delegates also look at shapes and options, and may leave more. (Android's
NNAPI is deprecated since Android 15 and has no row.)
"""
import collections

# The cases of `VisitNode` in tflite/delegates/xnnpack/xnnpack_delegate.cc of google-ai-edge/LiteRT, 2025. Results must
# be floating-point or quantised.
XNNPACK = frozenset("""
    ABS ADD AVERAGE_POOL_2D BATCH_MATMUL CEIL CONCATENATION CONV_2D COS DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV
    ELU EXP EXPAND_DIMS FLOOR FULLY_CONNECTED GELU HARD_SWISH LEAKY_RELU LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL
    NEG PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR ROUND RSQRT SIN SLICE
    SOFTMAX SPACE_TO_DEPTH SPLIT SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV
""".split())
XNNPACK_DTYPES = frozenset({"FLOAT32", "FLOAT16", "INT8", "UINT8", "INT4"})

# The cases of `CheckGpuDelegateCompatibility` in tensorflow/lite/tools/versioning/gpu_compatibility.cc of TensorFlow.
GPU = frozenset("""
    ABS ADD ADD_N ATAN2 AVERAGE_POOL_2D BATCH_MATMUL CAST CEIL CONCATENATION CONV_2D COS CUMSUM DENSIFY
    DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP FLOOR FLOOR_DIV
    FLOOR_MOD FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND
    LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU
    QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
    RSQRT SELECT SELECT_V2 SIGN SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE
    STABLEHLO_CLAMP STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE TRANSPOSE_CONV
""".split())


def left_over(subgraphs):
    """Operators that a delegate would leave, by kind.

    Args:
        subgraphs: as `kzoo.export.tflite_file.read_tflite` gives.

    Returns: dict "xnnpack" and "gpu" -> dict kind -> how many, the most first; "ADD (INT32)" where the type is why.
    """
    left = {"xnnpack": collections.Counter(), "gpu": collections.Counter()}
    for graph in subgraphs:
        for operator in graph.operators:
            dtypes = {graph.tensors[number].dtype for number in operator.outputs}
            if operator.kind not in GPU:
                left["gpu"][operator.kind] += 1
            if operator.kind not in XNNPACK:
                left["xnnpack"][operator.kind] += 1
            elif not dtypes <= XNNPACK_DTYPES:
                left["xnnpack"][f"{operator.kind} ({', '.join(sorted(dtypes - XNNPACK_DTYPES))})"] += 1
    return {name: dict(counter.most_common()) for name, counter in left.items()}
