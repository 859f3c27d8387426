"""Show where the time of a training step on a CPU goes, by kind of operation.

    python benchmarks/step_profile.py --models roberta-base --lengths sst2 mrpc --packs 5 10

Each measurement runs in a separate process: packs of LoRA (rank 8 on query and value) with random
weights and tokens, as in run.py. The first ten steps are not counted: in them the process gets its
memory from the operating system. The next steps are timed as they are, and after each the rate of
matrix products is measured, because the speed of a shared machine drifts. The necessary operations
of the steps over their seconds are a share of that rate. The last two steps run under torch's
profiler. The time of an operation is that of the main thread without the operations that it calls,
so the kinds add up to the step.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from shapes import EXAMPLES_PER_STEP, LENGTHS, MODELS, training_flops, write_model, write_tokens

CACHE = Path(__file__).resolve().parent / ".cache"
WARM_UP = 10  # steps that are not counted
PROFILED = 2  # steps
SIZE = 2048  # of the matrices whose product gives the rate, as in ways.py
KINDS = {
    "products of frozen layers, LoRA and heads": "mm addmm",
    "LoRA: additions of its products": "addmm_",
    "attention: products": "bmm baddbmm",
    "attention: softmax": "_softmax _softmax_backward_data",
    "GELU": "gelu gelu_backward",
    "LayerNorm and residual": "native_layer_norm native_layer_norm_backward addcmul",
    "dropout: masks and products with them": "bitwise_xor bitwise_xor_ bitwise_and_ __rshift__ "
    "__and__ mul mul_ add_ ge bitwise_and",
    "rows to and from attention": "index_select index_copy_ index",
    "copies, conversions, zeros": "copy_ fill_ zero_ cat constant_pad_nd empty empty_strided",
    "optimizer and clipping": "_fused_adamw_ linalg_vector_norm _foreach_mul_ _foreach_zero_",
}


class StepProfile:
    """Seconds of each step, the rate of products beside them, and a profile of the last steps.

    Args:
        steps: Number of steps of the run.
        precision: Precision of the run, `bf16` or `fp32`.
    """

    def __init__(self, steps: int, precision: str) -> None:
        import torch
        from torch.profiler import ProfilerActivity, profile

        from lora.training.device import DTYPES

        self.steps, self.seconds, self.rates = steps, list[float](), list[float]()
        self.profile = profile(activities=[ProfilerActivity.CPU])
        self.left, self.right = torch.randn(2, SIZE, SIZE).to(DTYPES[precision])

    def begin_step(self) -> None:
        """Call at the beginning of each step."""
        if len(self.seconds) == self.steps - PROFILED:
            self.profile.start()
        self.seconds.append(time.perf_counter())

    def end_step(self) -> None:
        """Call at the end of each step."""
        self.seconds[-1] = time.perf_counter() - self.seconds[-1]
        if len(self.seconds) == self.steps:
            self.profile.stop()
        elif WARM_UP < len(self.seconds) <= self.steps - PROFILED:
            self.rates += [self._product_rate() for _ in range(3)]

    def _product_rate(self) -> float:
        """Return the rate of a large matrix product, in GFLOP/s."""
        started = time.perf_counter()
        self.left @ self.right
        return 2 * SIZE**3 / (time.perf_counter() - started) / 1e9

    def seconds_by_kind(self) -> dict[str, float]:
        """Return the seconds of each kind of operation in a profiled step."""
        kind_of = {f"aten::{name}": kind for kind, names in KINDS.items() for name in names.split()}
        found = dict.fromkeys(KINDS, 0.0)
        for event in self.profile.key_averages():
            if event.key in kind_of:
                found[kind_of[event.key]] += event.self_cpu_time_total / 1e6 / PROFILED
        total = float(np.mean(self.seconds[-PROFILED:]))
        return found | {"Python and all other operations": total - sum(found.values())}


def measure(request: dict) -> dict:
    """Train one pack and return its measurements.

    Args:
        request: model, lengths, pack, steps, threads, precision.

    Returns:
        `step_s`, `tokens_per_s`, `share` of the rate of products, `rate` in GFLOP/s, `precision`,
        and `kinds`, the seconds of each kind in a profiled step.
    """
    import torch
    import ways

    from lora.data import tokens
    from lora.training import device

    torch.set_num_threads(request["threads"])
    shape, facts = MODELS[request["model"]], LENGTHS[request["lengths"]]
    steps, pack = WARM_UP + request["steps"] + PROFILED, request["pack"]
    model_dir = CACHE / request["model"]
    if not (model_dir / "config.json").is_file():
        write_model(model_dir, shape)
    precision = device.pick_precision(request["precision"], torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        write_tokens(Path(folder), facts, steps, shape.vocabulary)
        profile = StepProfile(steps, precision)
        settings = dict(
            tokens_dir=folder,
            model_dir=str(model_dir),
            pack=pack,
            rank=8,
            seed=0,
            classes=facts.classes,
            device="cpu",
            precision=precision,
        )
        ways.train_ours(settings, profile)
        lengths = tokens.load(folder)["train"].lengths
    timed = slice(EXAMPLES_PER_STEP * WARM_UP, EXAMPLES_PER_STEP * (steps - PROFILED))
    seen = np.concatenate(
        [lengths[tokens.epoch_order(seed, 0, len(lengths))[timed]] for seed in range(pack)]
    )
    seconds = sum(profile.seconds[WARM_UP:-PROFILED])
    rate = float(np.median(profile.rates))
    flops = training_flops(shape, seen, 8, facts.classes)
    return dict(
        step_s=seconds / request["steps"],
        tokens_per_s=int(seen.sum()) / seconds,
        share=flops / seconds / 1e9 / rate,
        rate=rate,
        precision=precision,
        device=device.device_name(torch.device("cpu")),
        kinds=profile.seconds_by_kind(),
    )


def table(rows: list[dict]) -> str:
    """Return a Markdown table: one column a measurement, one line a kind, in per cent of a step."""
    titles = [f"{row['model']}, {row['lengths']}, {row['pack']}" for row in rows]
    lines = [f"| | {' | '.join(titles)} |", f"|:--|{'--:|' * len(rows)}"]
    values = {
        "seconds a step": [f"{row['step_s']:.2f}" for row in rows],
        "tokens a second": [f"{row['tokens_per_s']:.0f}" for row in rows],
        "rate of products, GFLOP/s": [f"{row['rate']:.0f}" for row in rows],
        "share of the rate of products, %": [f"{100 * row['share']:.1f}" for row in rows],
    }
    for kind in rows[0]["kinds"]:
        values[f"{kind}, % of a step"] = [
            f"{100 * row['kinds'][kind] / sum(row['kinds'].values()):.1f}" for row in rows
        ]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in values.items()]
    return "\n".join(lines)


def main() -> None:
    """Measure every combination, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["roberta-base"])
    parser.add_argument("--lengths", nargs="+", choices=LENGTHS, default=["sst2", "mrpc"])
    parser.add_argument("--packs", nargs="+", type=int, default=[5, 10])
    parser.add_argument("--steps", type=int, default=4, help="timed steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--request", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.request:
        print(json.dumps(measure(json.loads(arguments.request))))
        return
    rows = []
    for model in arguments.models:
        for lengths in arguments.lengths:
            for pack in arguments.packs:
                request = dict(model=model, lengths=lengths, pack=pack)
                fixed = dict(
                    steps=arguments.steps, threads=arguments.threads, precision=arguments.precision
                )
                command = [sys.executable, __file__, "--request", json.dumps(request | fixed)]
                done = subprocess.run(
                    command,
                    env=dict(GOMP_SPINCOUNT="10000") | os.environ,  # as lora's command line sets it
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                rows.append(request | json.loads(done.stdout.splitlines()[-1]))
    first = rows[0]
    print(f"{first['device']}, {arguments.threads} threads, {first['precision']}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
