"""Step times of training runs as their owners published them, with layout and source.

Facts only: what was trained, on how many accelerators, how it was cut, and how long a step took. Where a
source tells the rate and not the time, the time follows from the rate by its own count of operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

__all__ = ["SOURCES", "Published", "published"]

_NEMO = (
    "https://github.com/NVIDIA-NeMo/Megatron-Bridge/blob/067f987df03b8355b03192d88d70f1709fedf51a/docs"
    "/performance-summary{}.md, NeMo container {}"
)
_FOUNDRY = (
    "https://github.com/mosaicml/llm-foundry/blob/8c8dd48f72168c5d51e2f7b151595892a8fba43d/scripts/train"
    "/benchmarking/README.md, {}"
)

#: Where rows were published, by the last column of the table.
SOURCES: dict[str, str] = {
    "nemo-26.08": _NEMO.format("", "26.08"),
    **{
        f"nemo-{release}": _NEMO.format("-archive", release)
        for release in (
            "26.06.01", "26.06", "26.04.01", "26.04", "26.02.01", "26.02", "25.11", "25.09",
        )
    },
    "foundry-h100-large": _FOUNDRY.format("H100 80GB BF16, 128 GPUs and more"),
    "foundry-h100": _FOUNDRY.format("H100 80GB BF16"),
    "foundry-h100-fp8": _FOUNDRY.format("H100 80GB FP8"),
    "foundry-a100": _FOUNDRY.format("A100 40GB with 1600 Gb/s a node (RoCE)"),
    "tpu-recipes": (
        "https://github.com/AI-Hypercomputer/tpu-recipes/tree/c8cfe2f689081d36701a101cd73a70965d80926b/training"
        "/trillium (time, layout and batch as each README has them)"
    ),
    "llama3": "Llama 3, arXiv 2407.21783, table 4: TFLOP/s; the time by 6 operations a token and weight",
    "sc21": (
        "Narayanan et al., SC21, arXiv 2104.04473, table 1 (recalled): TFLOP/s; the time by the paper's"
        " formula; micro-batches and interleaving from NVIDIA/Megatron-LM examples/sc21/run_table_1.sh"
    ),
}  # fmt: skip

# model, accelerator, accelerators, precision, sequences of a step and of a micro-batch, tokens of a sequence,
# tensor, pipeline, virtual and expert parallelism, seconds of a step, published TFLOP/s of an accelerator,
# FSDP sharding (+r: activations are computed again), source
_TABLE = """
qwen3-30b-a3b gb200 8 fp8 512 4 4096 1 1 1 8 6.564 923 - nemo-26.08
qwen3-30b-a3b gb200 8 fp8 512 4 4096 1 1 1 8 6.4 937 - nemo-26.06.01
qwen3-30b-a3b gb200 8 fp8 512 4 4096 1 1 1 8 6.44 936 - nemo-26.06
qwen3-30b-a3b h100 16 fp8 1024 1 4096 1 1 1 16 29.701 203 - nemo-26.06
llama3-70b h100 32 fp8 32 1 4096 4 4 5 1 2.501 710 - nemo-26.06
llama3-70b h100 8 fp8 32 1 4096 2 4 20 1 6.199 735 - nemo-26.06
llama3-70b h100 64 fp8 256 1 8192 4 8 5 1 19.692 731 - nemo-26.04.01
qwen3-30b-a3b gb200 8 fp8 512 4 4096 1 1 1 8 10.039 599 - nemo-26.04.01
qwen3-30b-a3b h100 16 fp8 1024 1 4096 1 1 1 16 29.257 206 - nemo-26.04.01
llama3-70b h100 64 fp8 256 1 8192 4 8 5 1 20.066 734 - nemo-26.04
qwen3-30b-a3b gb200 8 fp8 512 4 4096 1 1 1 8 10.07 599 - nemo-26.04
qwen3-30b-a3b h100 16 fp8 1024 1 4096 1 1 1 16 29.451 205 - nemo-26.04
llama3-70b h100 64 fp8 256 1 8192 4 8 5 1 19.993 736 - nemo-26.02.01
qwen3-30b-a3b gb200 8 fp8 512 4 4096 1 1 1 8 9.94 607 - nemo-26.02.01
qwen3-30b-a3b h100 16 fp8 1024 1 4096 1 2 12 8 28.941 208 - nemo-26.02.01
llama3-70b h100 64 fp8 256 1 8192 4 8 5 1 20.215 728 - nemo-26.02
qwen3-30b-a3b gb200 8 fp8 512 4 4096 1 1 1 8 10.05 600 - nemo-26.02
qwen3-30b-a3b h100 16 fp8 1024 1 4096 1 2 12 8 51.27 118 - nemo-26.02
llama3-8b gb200 8 fp8 128 2 8192 1 1 1 1 4.16 1622 - nemo-25.11
qwen3-30b-a3b gb200 8 fp8 512 4 4096 1 1 1 8 11.03 547 - nemo-25.11
llama3-8b h100 8 fp8 128 1 8192 1 1 1 1 9.07 744 - nemo-25.11
llama3-70b h100 64 fp8 128 1 8192 4 8 5 1 10.227 719 - nemo-25.11
qwen3-30b-a3b h100 16 fp8 512 2 4096 1 2 24 8 24.848 121 - nemo-25.11
llama3-8b gb200 8 fp8 128 2 8192 1 1 1 1 4.18 1614 - nemo-25.09
llama3-8b h100 8 fp8 128 1 8192 1 1 1 1 9.31 725 - nemo-25.09
llama3-70b h100 64 fp8 128 1 8192 4 8 5 1 10.12 727 - nemo-25.09
mpt-70b h100 512 bf16 4096 8 2048 1 1 1 1 16.2701 408 full+r foundry-h100-large
mpt-70b h100 256 bf16 2048 8 2048 1 1 1 1 15.83 419 full+r foundry-h100-large
mpt-70b h100 128 bf16 1024 8 2048 1 1 1 1 15.4858 428 full+r foundry-h100-large
mpt-13b h100 512 bf16 8192 16 2048 1 1 1 1 6.6171 406 full+r foundry-h100-large
mpt-13b h100 256 bf16 4096 16 2048 1 1 1 1 6.568 409 full+r foundry-h100-large
mpt-13b h100 128 bf16 2048 16 2048 1 1 1 1 6.4504 417 full+r foundry-h100-large
mpt-1b h100 512 bf16 6144 12 2048 1 1 1 1 0.6169 362 grad foundry-h100-large
mpt-1b h100 256 bf16 3072 12 2048 1 1 1 1 0.5775 387 grad foundry-h100-large
mpt-1b h100 128 bf16 1536 12 2048 1 1 1 1 0.557 401 grad foundry-h100-large
mpt-70b h100 64 bf16 2048 8 2048 1 1 1 1 63.076 421 full+r foundry-h100
mpt-70b h100 32 bf16 1024 2 2048 1 1 1 1 74.3039 357 full+r foundry-h100
mpt-13b h100 8 bf16 24 1 32768 1 1 1 1 49.749 313 full+r foundry-h100
mpt-13b h100 8 bf16 72 3 16384 1 1 1 1 49.399 351 full+r foundry-h100
mpt-13b h100 8 bf16 240 10 4096 1 1 1 1 26.0505 411 full+r foundry-h100
mpt-13b h100 64 bf16 128 2 2048 1 1 1 1 0.8533 394 full foundry-h100
mpt-13b h100 32 bf16 64 2 2048 1 1 1 1 0.8514 395 full foundry-h100
mpt-13b h100 16 bf16 32 2 2048 1 1 1 1 0.8592 391 full foundry-h100
mpt-13b h100 8 bf16 16 2 2048 1 1 1 1 0.8548 393 full foundry-h100
mpt-13b h100 8 bf16 960 40 1024 1 1 1 1 22.3337 438 full+r foundry-h100
mpt-1b h100 8 bf16 16 1 65536 1 1 1 1 23.8053 260 full+r foundry-h100
mpt-1b h100 8 bf16 32 1 32768 1 1 1 1 10.9 331 full foundry-h100
mpt-1b h100 8 bf16 64 2 16384 1 1 1 1 6.6707 348 full foundry-h100
mpt-1b h100 8 bf16 96 3 8192 1 1 1 1 3.3715 373 full foundry-h100
mpt-1b h100 8 bf16 224 7 4096 1 1 1 1 2.9762 398 full foundry-h100
mpt-1b h100 64 bf16 1280 20 2048 1 1 1 1 0.9225 404 full foundry-h100
mpt-1b h100 32 bf16 640 20 2048 1 1 1 1 0.9076 410 full foundry-h100
mpt-1b h100 16 bf16 320 20 2048 1 1 1 1 0.8897 419 full foundry-h100
mpt-1b h100 8 bf16 112 14 2048 1 1 1 1 0.6308 413 full foundry-h100
mpt-1b h100 8 bf16 576 18 1024 1 1 1 1 1.5074 415 full foundry-h100
mpt-1b h100 8 bf16 1792 56 512 1 1 1 1 2.1939 427 full foundry-h100
mpt-1b h100 8 fp8 32 1 32768 1 1 1 1 10.4191 347 full foundry-h100-fp8
mpt-1b h100 8 fp8 64 2 8192 1 1 1 1 2.0474 409 full foundry-h100-fp8
mpt-1b h100 8 fp8 1792 56 512 1 1 1 1 1.6311 575 full foundry-h100-fp8
mpt-70b a100-40gb 128 bf16 512 4 2048 1 1 1 1 21.7872 152 full+r foundry-a100
mpt-70b a100-40gb 64 bf16 128 2 2048 1 1 1 1 14.8406 111 full+r foundry-a100
mpt-30b a100-40gb 128 bf16 768 6 2048 1 1 1 1 14.2058 163 full+r foundry-a100
mpt-30b a100-40gb 32 bf16 128 4 2048 1 1 1 1 9.5589 161 full+r foundry-a100
mpt-13b a100-40gb 8 bf16 128 1 8192 1 1 1 1 93.1571 137 full+r foundry-a100
mpt-13b a100-40gb 8 bf16 256 2 4096 1 1 1 1 81.7667 139 full+r foundry-a100
mpt-13b a100-40gb 128 bf16 2048 16 2048 1 1 1 1 16.6166 162 full+r foundry-a100
mpt-13b a100-40gb 64 bf16 1024 16 2048 1 1 1 1 16.583 162 full+r foundry-a100
mpt-13b a100-40gb 32 bf16 448 14 2048 1 1 1 1 14.3504 164 full+r foundry-a100
mpt-13b a100-40gb 16 bf16 160 10 2048 1 1 1 1 10.276 163 full+r foundry-a100
mpt-13b a100-40gb 8 bf16 512 4 2048 1 1 1 1 78.5803 137 full+r foundry-a100
mpt-13b a100-40gb 8 bf16 1024 8 1024 1 1 1 1 75.8958 137 full+r foundry-a100
mpt-13b a100-40gb 8 bf16 2048 16 512 1 1 1 1 74.346 138 full+r foundry-a100
mpt-7b a100-40gb 8 bf16 32 1 16384 1 1 1 1 29.1401 148 full+r foundry-a100
mpt-7b a100-40gb 8 bf16 96 3 8192 1 1 1 1 34.0506 153 full+r foundry-a100
mpt-7b a100-40gb 8 bf16 192 6 4096 1 1 1 1 29.205 156 full+r foundry-a100
mpt-7b a100-40gb 128 bf16 2304 18 2048 1 1 1 1 10.175 156 full+r foundry-a100
mpt-7b a100-40gb 64 bf16 1152 18 2048 1 1 1 1 10.0584 158 full+r foundry-a100
mpt-7b a100-40gb 32 bf16 576 18 2048 1 1 1 1 9.8964 160 full+r foundry-a100
mpt-7b a100-40gb 16 bf16 256 16 2048 1 1 1 1 8.9898 157 full+r foundry-a100
mpt-7b a100-40gb 8 bf16 384 12 2048 1 1 1 1 26.7203 158 full+r foundry-a100
mpt-7b a100-40gb 8 bf16 768 24 1024 1 1 1 1 25.507 160 full+r foundry-a100
mpt-7b a100-40gb 8 bf16 1536 48 512 1 1 1 1 25.2385 158 full+r foundry-a100
mpt-3b a100-40gb 8 bf16 32 1 32768 1 1 1 1 44.356 143 full+r foundry-a100
mpt-3b a100-40gb 8 bf16 128 2 16384 1 1 1 1 58.7109 143 full+r foundry-a100
mpt-3b a100-40gb 8 bf16 64 1 8192 1 1 1 1 9.1672 172 full foundry-a100
mpt-3b a100-40gb 8 bf16 128 2 4096 1 1 1 1 7.4668 175 full foundry-a100
mpt-3b a100-40gb 128 bf16 768 6 2048 1 1 1 1 1.2883 170 full foundry-a100
mpt-3b a100-40gb 64 bf16 384 6 2048 1 1 1 1 1.2621 174 full foundry-a100
mpt-3b a100-40gb 32 bf16 192 6 2048 1 1 1 1 1.2395 177 full foundry-a100
mpt-3b a100-40gb 16 bf16 80 5 2048 1 1 1 1 1.0503 174 full foundry-a100
mpt-3b a100-40gb 8 bf16 320 5 2048 1 1 1 1 8.1391 180 full foundry-a100
mpt-3b a100-40gb 8 bf16 640 10 1024 1 1 1 1 7.634 181 full foundry-a100
mpt-3b a100-40gb 8 bf16 1280 20 512 1 1 1 1 7.2342 185 full foundry-a100
mpt-1b a100-40gb 8 bf16 32 1 32768 1 1 1 1 25.7256 140 full+r foundry-a100
mpt-1b a100-40gb 8 bf16 64 1 16384 1 1 1 1 13.4917 172 full foundry-a100
mpt-1b a100-40gb 8 bf16 128 2 8192 1 1 1 1 9.7278 172 full foundry-a100
mpt-1b a100-40gb 8 bf16 256 4 4096 1 1 1 1 7.776 174 full foundry-a100
mpt-1b a100-40gb 128 bf16 1280 10 2048 1 1 1 1 1.0983 169 full foundry-a100
mpt-1b a100-40gb 64 bf16 640 10 2048 1 1 1 1 1.0778 172 full foundry-a100
mpt-1b a100-40gb 32 bf16 320 10 2048 1 1 1 1 1.3166 141 full foundry-a100
mpt-1b a100-40gb 16 bf16 128 8 2048 1 1 1 1 0.8585 173 full foundry-a100
mpt-1b a100-40gb 8 bf16 512 8 2048 1 1 1 1 6.8015 175 full foundry-a100
mpt-1b a100-40gb 8 bf16 1024 16 1024 1 1 1 1 6.2537 177 full foundry-a100
mpt-1b a100-40gb 8 bf16 2048 32 512 1 1 1 1 6.0174 178 full foundry-a100
mpt-760m a100-40gb 8 bf16 32 1 32768 1 1 1 1 18.2475 138 full+r foundry-a100
mpt-760m a100-40gb 8 bf16 32 1 16384 1 1 1 1 4.7101 166 full foundry-a100
mpt-760m a100-40gb 8 bf16 96 3 8192 1 1 1 1 4.8893 165 full foundry-a100
mpt-760m a100-40gb 8 bf16 192 6 4096 1 1 1 1 3.801 165 full foundry-a100
mpt-760m a100-40gb 128 bf16 1536 12 2048 1 1 1 1 0.8492 158 full foundry-a100
mpt-760m a100-40gb 64 bf16 768 12 2048 1 1 1 1 0.8375 160 full foundry-a100
mpt-760m a100-40gb 32 bf16 384 12 2048 1 1 1 1 0.8289 162 full foundry-a100
mpt-760m a100-40gb 16 bf16 192 12 2048 1 1 1 1 0.8301 161 full foundry-a100
mpt-760m a100-40gb 8 bf16 384 12 2048 1 1 1 1 3.258 165 full foundry-a100
mpt-760m a100-40gb 8 bf16 768 24 1024 1 1 1 1 2.9413 167 full foundry-a100
mpt-760m a100-40gb 8 bf16 1536 48 512 1 1 1 1 2.8137 166 full foundry-a100
mpt-350m a100-40gb 8 bf16 32 1 32768 1 1 1 1 9.7698 160 full foundry-a100
mpt-350m a100-40gb 8 bf16 64 2 16384 1 1 1 1 5.7247 161 full foundry-a100
mpt-350m a100-40gb 8 bf16 128 4 8192 1 1 1 1 3.7521 160 full foundry-a100
mpt-350m a100-40gb 8 bf16 256 8 4096 1 1 1 1 2.7987 157 full foundry-a100
mpt-350m a100-40gb 128 bf16 2304 18 2048 1 1 1 1 0.7098 142 full foundry-a100
mpt-350m a100-40gb 64 bf16 1152 18 2048 1 1 1 1 0.6997 144 full foundry-a100
mpt-350m a100-40gb 32 bf16 576 18 2048 1 1 1 1 0.6851 147 full foundry-a100
mpt-350m a100-40gb 16 bf16 288 18 2048 1 1 1 1 0.6653 151 full foundry-a100
mpt-350m a100-40gb 8 bf16 512 16 2048 1 1 1 1 2.3408 153 full foundry-a100
mpt-350m a100-40gb 8 bf16 1024 32 1024 1 1 1 1 2.0964 152 full foundry-a100
mpt-350m a100-40gb 8 bf16 2048 64 512 1 1 1 1 1.9774 150 full foundry-a100
mpt-125m a100-40gb 8 bf16 32 1 32768 1 1 1 1 4.0143 147 full foundry-a100
mpt-125m a100-40gb 8 bf16 48 2 16384 1 1 1 1 1.7718 145 full foundry-a100
mpt-125m a100-40gb 8 bf16 120 5 8192 1 1 1 1 1.4147 146 full foundry-a100
mpt-125m a100-40gb 8 bf16 312 13 4096 1 1 1 1 1.3871 139 full foundry-a100
mpt-125m a100-40gb 128 bf16 3328 26 2048 1 1 1 1 0.4296 121 full foundry-a100
mpt-125m a100-40gb 64 bf16 1664 26 2048 1 1 1 1 0.4252 122 full foundry-a100
mpt-125m a100-40gb 32 bf16 832 26 2048 1 1 1 1 0.4189 124 full foundry-a100
mpt-125m a100-40gb 16 bf16 416 26 2048 1 1 1 1 0.4079 127 full foundry-a100
mpt-125m a100-40gb 8 bf16 624 26 2048 1 1 1 1 1.1717 133 full foundry-a100
mpt-125m a100-40gb 8 bf16 1248 52 1024 1 1 1 1 1.0772 127 full foundry-a100
mpt-125m a100-40gb 8 bf16 2496 104 512 1 1 1 1 1.0192 125 full foundry-a100
llama2-70b tpu-v6e 256 bf16 512 2 4096 1 1 1 1 9.052 402.274 - tpu-recipes
llama3-405b tpu-v6e 512 bf16 512 1 8192 1 1 1 1 54.803 392.454 - tpu-recipes
llama3-70b tpu-v6e 128 bf16 512 4 8192 1 1 1 1 34.786 453.5 - tpu-recipes
llama3-70b tpu-v6e 256 bf16 1280 5 8192 1 1 1 1 42.656 462.297 - tpu-recipes
llama3-70b tpu-v6e 32 bf16 64 2 8192 1 1 1 1 17.79 443.385 - tpu-recipes
llama3-70b tpu-v6e 64 bf16 128 2 8192 1 1 1 1 18.688 422.091 - tpu-recipes
llama3-8b tpu-v6e 128 bf16 512 4 8192 1 1 1 1 4.602 412.319 - tpu-recipes
llama3-8b tpu-v6e 16 bf16 48 3 8192 1 1 1 1 3.393 419.485 - tpu-recipes
llama3-8b tpu-v6e 256 bf16 1024 4 8192 1 1 1 1 4.546 417.397 - tpu-recipes
llama3-8b tpu-v6e 32 bf16 96 3 8192 1 1 1 1 3.495 407.225 - tpu-recipes
llama3-8b tpu-v6e 64 bf16 320 5 8192 1 1 1 1 5.652 419.701 - tpu-recipes
llama3-8b tpu-v6e 8 bf16 24 3 8192 1 1 1 1 3.443 413.433 - tpu-recipes
llama3-405b h100 8192 bf16 2048 1 8192 8 16 8 1 11.57 430 - llama3
llama3-405b h100 16384 bf16 2048 1 8192 8 16 8 1 6.22 400 - llama3
gpt-1.7b a100 32 fp16 512 16 2048 1 1 1 1 3.53 137 - sc21
gpt-3.6b a100 64 fp16 512 16 2048 2 1 1 1 3.7 138 - sc21
gpt-7.5b a100 128 fp16 512 16 2048 4 1 1 1 3.7 142 - sc21
gpt-18.4b a100 256 fp16 1024 8 2048 8 1 1 1 9.4 135 - sc21
gpt-76.1b a100 1024 fp16 1792 2 2048 8 4 3 1 16.06 140 - sc21
gpt-310.1b a100 1920 fp16 2160 1 2048 8 16 2 1 37.61 155 - sc21
gpt-529.6b a100 2520 fp16 2520 1 2048 8 35 3 1 54.08 163 - sc21
"""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published row.

    Parameters
    ----------
    number
        Its place in the table, from 1.
    model, accelerator, n_ranks, precision
        What was trained, on what.
    global_batch_seqs, micro_batch_seqs, sequence_tokens
        Sequences of a step and of a micro-batch, and tokens of one.
    tensor, pipeline, virtual, expert
        The parallel layout; the rest is data parallelism.
    step_s, tflops
        Seconds of a step, and TFLOP/s of an accelerator by the source's count.
    sharding, recompute
        ``full``, ``grad`` or ``none``, and whether activations are computed again; what the source tells.
    source
        A name of ``SOURCES``.
    """

    number: int
    model: str
    accelerator: str
    n_ranks: int
    precision: str
    global_batch_seqs: int
    micro_batch_seqs: int
    sequence_tokens: int
    tensor: int
    pipeline: int
    virtual: int
    expert: int
    step_s: float
    tflops: float
    sharding: str
    recompute: bool
    source: str

    @property
    def label(self) -> str:
        """What it is, in a line."""
        cut = [
            f"{name}{value}"
            for name, value in (
                ("TP", self.tensor), ("PP", self.pipeline), ("VP", self.virtual), ("EP", self.expert),
            )
            if value > 1
        ]  # fmt: skip
        layout = " ".join(cut) or ("FSDP" if self.sharding != "none" else "DP")
        return (
            f"{self.model} on {self.n_ranks} {self.accelerator}, {self.precision}, {layout},"
            f" {self.global_batch_seqs} x {self.sequence_tokens} tokens by {self.micro_batch_seqs}"
        )


@cache
def published() -> tuple[Published, ...]:
    """Return the table."""
    rows = []
    for number, line in enumerate(_TABLE.strip().splitlines(), 1):
        model, accelerator, ranks, precision, *numbers, step_s, tflops, sharding, source = line.split()
        whole = [int(value) for value in numbers]
        rows.append(
            Published(
                number=number,
                model=model,
                accelerator=accelerator,
                n_ranks=int(ranks),
                precision=precision,
                global_batch_seqs=whole[0],
                micro_batch_seqs=whole[1],
                sequence_tokens=whole[2],
                tensor=whole[3],
                pipeline=whole[4],
                virtual=whole[5],
                expert=whole[6],
                step_s=float(step_s),
                tflops=float(tflops),
                sharding={"-": "none"}.get(sharding, sharding.removesuffix("+r")),
                recompute=sharding.endswith("+r"),
                source=source,
            )
        )
    return tuple(rows)
