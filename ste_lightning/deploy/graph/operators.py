"""The operators that a packed network's graph may name: an allow-list of ATen's overloads.

A name is that of the ATen operator, with its overload after a dot unless that is the default one;
argument types are those of torch's own schema, which every call is matched against. Operators
that draw random numbers or read or write raw memory are left out. ``sizes.NAME`` are
Python's arithmetic on sizes.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import torch

from ste_lightning.errors import ConfigurationError, unknown

__all__ = ["ATEN", "FACTORIES", "SIZES", "is_known", "operator_name", "resolved"]

_BINARY = "add sub mul div remainder fmod"  # .Tensor and .Scalar
_COMPARED = "eq ne lt le gt ge bitwise_and bitwise_or bitwise_xor"
_UNARY = """
abs neg sign exp expm1 exp2 log log1p log2 log10 sqrt rsqrt square sin cos tan asin acos atan sinh
cosh tanh asinh acosh atanh ceil floor trunc frac round reciprocal erf erfc erfinv sigmoid relu
relu6 selu celu elu silu gelu mish hardsigmoid hardswish hardtanh leaky_relu log_sigmoid softplus
logical_not bitwise_not isnan isinf isfinite sgn sinc logit nan_to_num square deg2rad positive
clamp clamp_min clamp_max threshold hardshrink softshrink
"""
_SHAPES = """
view view.dtype reshape flatten.using_ints unflatten.int permute transpose.int t numpy_T mT mH
squeeze squeeze.dim squeeze.dims unsqueeze expand expand_as view_as reshape_as contiguous
select.int slice.Tensor narrow narrow.Tensor split.Tensor split.sizes split_with_sizes chunk
unbind.int tensor_split.sections tensor_split.indices cat stack hstack vstack dstack concat
concatenate repeat repeat_interleave.self_int tile roll flip fliplr flipud rot90 movedim.int
movedim.intlist moveaxis.int moveaxis.intlist swapaxes swapdims diagonal unfold tril triu
diag_embed meshgrid meshgrid.indexing broadcast_tensors broadcast_to atleast_1d atleast_2d
atleast_3d pixel_shuffle pixel_unshuffle channel_shuffle real imag complex polar angle view_as_real
view_as_complex alias detach clone lift_fresh_copy resolve_conj resolve_neg conj to.dtype
to.dtype_layout to.device to.other type_as _to_copy slice_scatter select_scatter diagonal_scatter
constant_pad_nd pad reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
replication_pad2d replication_pad3d _unsafe_view squeeze_copy adjoint ravel block_diag
cartesian_prod combinations
"""
_REDUCED = """
sum sum.dim_IntList mean mean.dim amax amin max max.dim min min.dim argmax argmin prod prod.dim_int
var var.dim var.correction std std.dim std.correction var_mean.correction std_mean.correction
norm.Scalar norm.ScalarOpt_dim linalg_vector_norm logsumexp cumsum cumprod cummax cummin any
any.dim all all.dim median median.dim aminmax softmax.int log_softmax.int _softmax _log_softmax
count_nonzero count_nonzero.dim_IntList argsort sort topk kthvalue cosine_similarity
pairwise_distance cdist diff trace renorm nansum nanmean fft_fft
fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn
fft_ifftn fft_rfftn fft_irfftn fft_fftshift fft_ifftshift stft stft.center istft
"""
_PRODUCTS = """
matmul mm bmm addmm baddbmm addbmm addmv mv dot inner outer linear bilinear einsum tensordot kron
chain_matmul cross linalg_cross conv1d conv2d conv3d conv1d.padding conv2d.padding conv3d.padding
conv_transpose1d conv_transpose2d.input conv_transpose3d.input convolution
scaled_dot_product_attention lstm.input gru.input rnn_tanh.input rnn_relu.input lstm_cell gru_cell
rnn_tanh_cell rnn_relu_cell _native_multi_head_attention linalg_matrix_norm addcmul addcdiv
"""
_LAYERS = """
batch_norm layer_norm group_norm instance_norm rms_norm native_layer_norm native_group_norm
native_batch_norm _native_batch_norm_legit_no_training max_pool1d max_pool2d max_pool3d
max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d
adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d upsample_nearest1d upsample_nearest2d
upsample_nearest3d upsample_nearest1d.vec upsample_nearest2d.vec upsample_nearest3d.vec
upsample_linear1d upsample_linear1d.vec upsample_bilinear2d upsample_bilinear2d.vec
upsample_bicubic2d upsample_bicubic2d.vec upsample_trilinear3d upsample_trilinear3d.vec
_upsample_nearest_exact1d.vec _upsample_nearest_exact2d.vec _upsample_bilinear2d_aa.vec
_upsample_bicubic2d_aa.vec grid_sampler grid_sampler_2d affine_grid_generator im2col col2im
embedding embedding_bag _embedding_bag _embedding_bag_forward_only glu prelu one_hot dropout
alpha_dropout feature_dropout
"""
_CHOSEN = """
where.self where.ScalarSelf where.ScalarOther where.Scalar masked_fill.Scalar masked_fill.Tensor
index.Tensor index_select gather take_along_dim scatter.src scatter.value scatter_add index_put
index_add index_fill.int_Scalar index_copy maximum minimum max.other min.other fmax fmin
bucketize.Tensor searchsorted.Tensor nonzero masked_select argwhere isin.Tensor_Tensor logical_and
logical_or logical_xor pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar rsub.Scalar rsub.Tensor
div.Tensor_mode div.Scalar_mode true_divide.Tensor atan2 hypot copysign.Tensor clamp.Tensor
clamp_min.Tensor clamp_max.Tensor lerp.Scalar lerp.Tensor bitwise_left_shift.Tensor
bitwise_right_shift.Tensor floor_divide floor_divide.Scalar fill.Scalar fill.Tensor round.decimals
heaviside __and__.Tensor __or__.Tensor __xor__.Tensor
"""
_MADE = """
zeros ones full empty.memory_format arange arange.start arange.start_step linspace eye
scalar_tensor
"""
_LIKE = """
zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty
"""
_IN_PLACE = """
sign_ sgn_ pow_.Tensor reciprocal_ log_ log1p_ expm1_ square_ erf_ trunc_ sin_ cos_ nan_to_num_
eq_.Scalar logical_and_ logical_or_ cumsum_ tril_ triu_ add_.Tensor add_.Scalar sub_.Tensor
sub_.Scalar mul_.Tensor mul_.Scalar div_.Tensor div_.Scalar relu_ relu6_ hardtanh_ leaky_relu_ elu_
silu_ gelu_ mish_ hardswish_ hardsigmoid_ sigmoid_ tanh_ clamp_ clamp_min_ clamp_max_ neg_ exp_
sqrt_ abs_ copy_ fill_.Scalar fill_.Tensor zero_ selu_ celu_ masked_fill_.Scalar
masked_fill_.Tensor index_put_ index_add_ index_copy_ index_fill_.int_Scalar scatter_.src
scatter_.value scatter_add_ pow_.Scalar addcmul_ addcdiv_ unsqueeze_ squeeze_.dim transpose_
threshold_ logical_not_ round_ floor_ ceil_ rsqrt_ t_ detach_
"""
FACTORIES = frozenset(_MADE.split())  # they are told the device


def _names() -> frozenset[str]:
    names = [
        f"{name}.{overload}"
        for name in (*_BINARY.split(), *_COMPARED.split())
        for overload in ("Tensor", "Scalar")
    ]
    lists = (_UNARY, _SHAPES, _REDUCED, _PRODUCTS, _LAYERS, _CHOSEN, _MADE, _LIKE, _IN_PLACE)
    return frozenset([*names, *(name for words in lists for name in words.split())])


ATEN = _names()

SIZES: dict[str, Callable[..., Any]] = {
    "sizes.size": lambda x, axis: int(x.shape[axis]),
    "sizes.numel": lambda x: int(x.numel()),
    "sizes.dim": lambda x: int(x.dim()),
    "sizes.getitem": operator.getitem,
    **{
        f"sizes.{name}": getattr(operator, name)
        for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "abs")
    },
    **{f"sizes.{name}": getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    "sizes.and": lambda a, b: bool(a) and bool(b),
    "sizes.or": lambda a, b: bool(a) or bool(b),
    "sizes.not": operator.not_,
    "sizes.max": max,
    "sizes.min": min,
    "sizes.float": float,
    "sizes.int": int,
    "sizes.floor": math.floor,
    "sizes.ceil": math.ceil,
    "sizes.sqrt": math.sqrt,
    "sizes.sum": sum,
    "sizes.check": lambda holds, where: None if holds else _unfit(where),
    "sizes.pow": lambda a, b: a**b if abs(a) < 1 << 16 and abs(b) < 4 else _too_large(a, b),
}


def _unfit(where: str) -> None:
    raise ConfigurationError(
        f"input of this size cannot be used: the network was captured with sizes for which a "
        f"branch ({where}) went the other way; pack it with a sample of this size."
    )


def _too_large(a: float, b: float) -> Any:
    raise ValueError(f"{a} to the power of {b} is no plausible size")


def is_known(name: str) -> bool:
    """Return whether a graph may name an operator."""
    return name in SIZES or name in ATEN


def operator_name(overload: torch._ops.OpOverload[..., Any]) -> str:
    """Return the name of an ATen overload in graphs; it need not be known."""
    name, suffix = overload._schema.name.removeprefix("aten::"), overload._overloadname
    return name if suffix in ("", "default") else f"{name}.{suffix}"


@functools.cache
def resolved(name: str) -> Callable[..., Any]:
    """Return what computes an operator.

    Raises:
        ConfigurationError: for one that graphs may not name, or that this torch does not have.
    """
    if name in SIZES:
        return SIZES[name]
    if name not in ATEN:
        raise unknown("operator", name, [*SIZES, *ATEN])
    packet, _, overload = name.partition(".")
    function = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
    if function is None:
        raise ConfigurationError(f"torch {torch.__version__} has no operator {name!r}.")
    called: Callable[..., Any] = function
    return called
