"""What native/module.cc binds. Addresses are those of ``Tensor.data_ptr()``, 0 for none; strides are in elements."""

class PackedMatrix:
    @property
    def num_bytes(self) -> int: ...
    def fill(self, rows: int, first: int, num_rows: int, row_stride: int) -> None: ...

def pack(out_features: int, in_features: int, dtype: str, gated: bool) -> PackedMatrix: ...
def embedding(weight: PackedMatrix, row_ids: int, num_ids: int, out: int, out_stride: int) -> None: ...
def linear(
    weight: PackedMatrix,
    x: int,
    num_rows: int,
    x_stride: int,
    y: int,
    y_stride: int,
    bias: int,
    residual: int,
    residual_stride: int,
) -> None: ...
def lend_pages(begin: int, num_bytes: int) -> None: ...
def drop_lent_pages() -> None: ...
def multiply_bf16(steps: int) -> int: ...

class Int8Matrix:
    @property
    def num_bytes(self) -> int: ...
    def fill(self, values: int, row_stride: int, scales: int, first: int, num_rows: int) -> None: ...
    def read(self, first: int, num_rows: int, values: int, scales: int) -> None: ...
    def gather(self, row_ids: int, num_ids: int, out: int, out_stride: int) -> None: ...

class GroupedMatrix:
    @property
    def num_bytes(self) -> int: ...
    def fill(self, values: int, scales: int, shifts: int, first: int, num_rows: int) -> None: ...
    def read(self, first: int, num_rows: int, values: int, scales: int, shifts: int) -> None: ...
    def gather(self, row_ids: int, num_ids: int, values: int, scales: int, shifts: int) -> None: ...

def pack_int8(out_features: int, in_features: int, gated: bool) -> Int8Matrix: ...
def pack_grouped(
    out_features: int, in_features: int, bits: int, group_size: int, scale_dtype: str, shift: str, gated: bool
) -> GroupedMatrix: ...
def quantized_rows_bytes(num_rows: int, size: int, group_size: int) -> int: ...
def quantize_rows(x: int, num_rows: int, size: int, group_size: int, x_stride: int, buffer: int) -> None: ...
def int8_linear(
    weight: Int8Matrix,
    x: int,
    x_stride: int,
    quantized: int,
    num_rows: int,
    y: int,
    y_stride: int,
    bias: int,
    residual: int,
    residual_stride: int,
) -> None: ...
def grouped_linear(
    weight: GroupedMatrix,
    x: int,
    x_stride: int,
    quantized: int,
    num_rows: int,
    y: int,
    y_stride: int,
    bias: int,
    residual: int,
    residual_stride: int,
) -> None: ...
def round_to_int8(
    weight: int, dtype: str, num_rows: int, num_columns: int, row_stride: int, values: int, scales: int
) -> None: ...
def round_to_int4(
    weight: int,
    dtype: str,
    num_rows: int,
    num_columns: int,
    row_stride: int,
    group_size: int,
    values: int,
    scales: int,
) -> None: ...
def multiply_int8(steps: int) -> int: ...
def paged_attention(
    query: int,
    query_stride: int,
    output: int,
    num_heads: int,
    keys: int,
    values: int,
    kv_type: int,
    num_kv_heads: int,
    head_dim: int,
    block_size: int,
    block_tables: int,
    table_stride: int,
    query_starts: int,
    seq_lens: int,
    num_seqs: int,
    scale: float,
    window: int,
    key_scales: int,
    value_scales: int,
    soft_cap: float,
    sinks: int,
    rounded: bool,
) -> None: ...
def varlen_attention(
    qkv: int,
    qkv_stride: int,
    starts: int,
    num_seqs: int,
    num_heads: int,
    head_dim: int,
    scale: float,
    output: int,
) -> None: ...
def rms_norm(
    x: int,
    x_stride: int,
    num_rows: int,
    size: int,
    weight: int,
    residual: int,
    residual_stride: int,
    eps: float,
    total: int,
    normalised: int,
) -> None: ...
def silu_and_mul(x: int, x_stride: int, num_rows: int, size: int, y: int) -> None: ...
def gelu_tanh_and_mul(x: int, x_stride: int, num_rows: int, size: int, y: int) -> None: ...
def rotary_write_kv(
    query: int,
    query_stride: int,
    key: int,
    key_stride: int,
    value: int,
    value_stride: int,
    num_tokens: int,
    num_heads: int,
    rotated: int,
    cos: int,
    sin: int,
    query_norm_weight: int,
    key_norm_weight: int,
    eps: float,
    keys: int,
    values: int,
    kv_type: int,
    num_kv_heads: int,
    head_dim: int,
    slots: int,
    rotary_dim: int,
    key_scales: int,
    value_scales: int,
) -> None: ...
def sample_tokens(
    logits: int,
    stride: int,
    num_rows: int,
    vocab_size: int,
    temperature: int,
    top_k: int,
    top_p: int,
    min_p: int,
    seeds: int,
    positions: int,
    token_ids: int,
) -> None: ...
def top_logprobs(
    logits: int,
    stride: int,
    num_rows: int,
    vocab_size: int,
    token_ids: int,
    num_top: int,
    logprobs: int,
    ids: int,
    ranks: int,
) -> None: ...
def apply_penalties(
    logits: int,
    stride: int,
    vocab_size: int,
    num_rows: int,
    rows: int,
    token_ids: int,
    token_stride: int,
    prompt_lens: int,
    lens: int,
    presence: int,
    frequency: int,
    repetition: int,
) -> None: ...
def apply_token_bitmask(
    logits: int,
    stride: int,
    vocab_size: int,
    num_rows: int,
    rows: int,
    bitmask: int,
    mask_stride: int,
) -> None: ...
def available_isas() -> list[str]: ...
def modelled_isas() -> list[str]: ...
def active_isa() -> str: ...
def set_active_isa(name: str) -> None: ...
def run_simd_probe(name: str, x: int, num_values: int, out: int) -> None: ...
def num_threads() -> int: ...
def set_num_threads(num_threads: int) -> None: ...

class pool_probes:  # noqa: N801
    """A submodule for the tests of the thread pool."""

    @staticmethod
    def run_small_regions(count: int, num_tasks: int) -> None: ...
    @staticmethod
    def meet(count: int) -> None: ...
    @staticmethod
    def nest_regions() -> None: ...
    @staticmethod
    def fail_in_task(num_tasks: int, failing: int) -> None: ...
    @staticmethod
    def count_tasks(num_tasks: int) -> list[int]: ...
    @staticmethod
    def count_streamed_tasks(num_tasks: int) -> list[int]: ...
    @staticmethod
    def threads_of_tasks(num_tasks: int) -> list[int]: ...

class Program:
    """The operations of the module as methods of the same arguments, which write the call down for ``run``."""

    @property
    def num_calls(self) -> int: ...
    @property
    def names(self) -> list[str]: ...
    def __init__(self, num_tokens: int, num_seqs: int) -> None: ...
    def run(self, num_tokens: int, num_seqs: int) -> None: ...
    def run_timed(self, num_tokens: int, num_seqs: int) -> list[int]: ...
