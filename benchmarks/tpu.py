"""SDC on a TPU v5e that is only described: what its compiler estimates, kernels and XLA's forms.

    JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1 .venv-compile/bin/python -m benchmarks.tpu [--json FILE]

No TPU takes part and nothing is timed: these are estimates, not measurements. In the environment of
`make test-compile`, each program is compiled for one v5e chip and its cycles are added up.

- XLA's own operations: the cycles that its cost model notes at each (`estimated_cycles`), those of
  a loop's body times its trips. Copies between memories that run beside others are not counted.
- Pallas kernels, which that model does not look into: the instruction bundles of the compiler's
  final schedule, one per cycle, those of a loop times its trips; but for a loop's body at least 16
  cycles for each product of 16 rows in the busiest matrix unit. What a step of the grid may skip
  counts always. Waiting for memory is not in a schedule: `memory` is what the blocks that a kernel
  copies take at 819 GB/s and 1.5 GHz, and the larger of the two counts.

The convolution is counted as XLA compiles it on its own, and as the matrix units alone: nine taps
at one row of 128 numbers per cycle in each of four of them.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path

SHAPES = [(16, 128, 128, 256), (16, 64, 64, 512), (4, 64, 64, 2048)]
FORMS = ("convolution", "xla", "pallas_tpu")
BYTES_PER_CYCLE = 819 / 1.5


def compiled_text(shape, form: str, backward: bool) -> str:
    """The compiled program for one chip."""
    import jax  # noqa: PLC0415
    from jax.sharding import AxisType, Mesh  # noqa: PLC0415

    from tests.compile_only import test_operator as programs  # noqa: PLC0415
    from tests.compile_only.described import compile_for, tpu_mesh  # noqa: PLC0415

    chip = Mesh(tpu_mesh("v5e:2x2").devices[:1], ("data",), axis_types=(AxisType.Auto,))
    function = programs.convolution
    if form != "convolution":
        function = partial(programs.semantic_difference_conv, implementation=form)
        if form == "xla":  # the similarities in XLA's form, too
            function = partial(_without_kernels, function)
    if backward:
        function = programs.with_gradient(function)
    jax.config.update("jax_enable_compilation_cache", False)
    return compile_for(chip, function, *programs.operands(shape), batch_size=0).as_text()


def _without_kernels(function, *arguments):
    from sdnjax.ops import similarity  # noqa: PLC0415

    similarity.is_tpu_with_kernels = lambda: False
    return function(*arguments)


def computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    """Lines of every computation by its name, and the name of the entry."""
    found, entry, name = {}, "", ""
    for line in hlo.splitlines():
        head = re.match(r"(ENTRY )?(%\S+) \(.*\{$", line)
        if head:
            name = head[2]
            found[name] = []
            entry = name if head[1] else entry
        elif name:
            found[name].append(line.strip())
    return found, entry


def xla_cycles(hlo: str) -> dict[str, int]:
    """Estimated cycles by the kind of operation in the source: its last name."""
    found, entry = computations(hlo)
    cycles: dict[str, int] = {}

    def add(name: str, times: int) -> None:
        for line in found[name]:
            if loop := re.search(r" while\(.*condition=(%[^\s,]+), body=(%[^\s,]+)", line):
                condition, body = loop.groups()
                trips = re.findall(r" s32\[\]\S* constant\((\d+)\)", "\n".join(found[condition]))
                assert len(trips) == 1, f"cannot tell the trips of {condition}"
                add(body, times * int(trips[0]))
            elif note := re.search(r'"estimated_cycles":"?(\d+)', line):
                source = re.search(r'op_name="[^"]*?([^"/]*)"', line)
                key = source[1] if source else "other"
                cycles[key] = cycles.get(key, 0) + times * int(note[1])

    add(entry, 1)
    return cycles


def kernel_calls(hlo: str) -> dict[str, int]:
    """The cycles that memory takes for each Pallas kernel at least, by its instruction's name."""
    found, entry = computations(hlo)
    calls = {}
    for line in found[entry]:
        if 'custom_call_target="tpu_custom_call"' in line:
            name = re.match(r"(?:ROOT )?%(\S+) = ", line)[1]
            moved = re.search(r'"bytes_accessed":"?(\d+)', line)[1]
            calls[name] = round(int(moved) / BYTES_PER_CYCLE)
    return calls


def bundles(lines: Iterable[str]) -> int:
    """Cycles of a final schedule: `0x1f LB: >> { … }` is a bundle in the second of nested loops."""
    code = []
    for line in lines:
        if found := re.match(r"\s*0x[0-9a-f]+\s+(\w\w)?\s*:\s*(>*)\s*(\{.*)", line):
            code.append((found[1] == "LB", len(found[2]), found[3]))

    def run(start: int, stop: int, depth: int) -> int:
        """Cycles between two places at a depth of loops."""
        total, i, products = 0, start, dict.fromkeys("0123", 0)
        while i < stop:
            is_head, level, _ = code[i]
            if not (is_head and level == depth + 1):
                for unit in re.findall(r"vmatmul\.bf16\S*\.mxu(\d)", code[i][2]):
                    products[unit] += 1
                total, i = total + 1, i + 1
                continue
            # To the last bundle of this depth before the next loop of it. Bundles of the loop
            # around it may be mixed in.
            after = next(
                (j for j in range(i + 1, stop) if code[j][0] and code[j][1] <= level), stop
            )
            end = max(j for j in range(i, after) if code[j][1] >= level) + 1
            total += trips(i, end, level) * run(i, end, level)
            i = end
        return max(total, 16 * max(products.values()))

    def trips(start: int, end: int, depth: int) -> int:
        inner = [j for j in range(start + 1, end) if code[j][0]]
        test = r"scmp\.ge\.s32\.totalorder %\w+, (\d+) /\* loop exit test"
        # An inner loop's test stands before the end of that loop: the last one is this loop's own.
        found = [(j, int(m[1])) for j in range(start, end) if (m := re.search(test, code[j][2]))]
        assert found and (depth > 1 or len(found) > len(inner)), "cannot tell a loop's trips"
        return found[-1][1]

    return run(0, len(code), 0)


def estimate(shape, form: str, backward: bool) -> dict:
    """Compiles in a process of its own, which writes the schedules down."""
    with tempfile.TemporaryDirectory() as folder:
        flags = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
        environment = os.environ | {"ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "JAX_PLATFORMS": "cpu"}
        if form == "pallas_tpu":
            environment["LIBTPU_INIT_ARGS"] = flags
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.tpu", "--one", json.dumps([shape, form, backward])],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(done.stderr[-2000:])
        hlo, kernels = done.stdout, {}
        for name, memory in kernel_calls(hlo).items():
            # Compiled alike twice, a kernel is scheduled once.
            files = sorted(Path(folder).glob(f"*-{name}-*-final_bundles.txt"))
            files = [f for f in files if "schedule-analysis" not in f.name]
            assert files, f"no schedule of {name}"
            with files[-1].open() as lines:
                kernels[name] = {"bundles": bundles(lines), "memory": memory}
    parts = xla_cycles(hlo)
    total = sum(parts.values()) + sum(max(k.values()) for k in kernels.values())
    largest = dict(sorted(parts.items(), key=lambda item: -item[1])[:6])
    return {"total": total, "kernels": kernels, "xla": sum(parts.values()), "xla_largest": largest}


def matrix_units(shape, backward: bool) -> int:
    b, h, w, c = shape
    return 9 * b * h * w * math.ceil(c / 128) ** 2 // 4 * (3 if backward else 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also save the rows to this file")
    parser.add_argument("--only", nargs="+", default=[""], help="shapes that contain TEXT: 64×512")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(compiled_text(*json.loads(options.one)))
        return
    rows = []
    for shape in SHAPES:
        title = "×".join(map(str, shape))
        if not any(text in title for text in options.only):
            continue
        for backward in (False, True):
            units = matrix_units(shape, backward)
            for form in FORMS:
                found = estimate(shape, form, backward)
                direction = "forward+backward" if backward else "forward"
                row = {"shape": shape, "direction": direction, "form": form, "matrix_units": units}
                rows.append(row | found)
                print(
                    f"{title:16} {direction:17} {form:12} {found['total'] / 1e3:9.0f} kcycles, "
                    f"{found['total'] / units:5.2f} of the convolution's matrix units",
                    flush=True,
                )
    if options.json:
        versions = {name: version(name) for name in ("jax", "libtpu")}
        result = {"what": "compiler's estimates for TPU v5e", **versions, "rows": rows}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
