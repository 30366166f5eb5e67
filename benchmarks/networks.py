"""Parameters and multiply-adds of every named network, without and with the SDN neck.

    python -m benchmarks.networks [--size 512,512] [--classes 150] [NAME …]

Prints rows of a Markdown table. Nothing is computed: see `sdnjax.models.summary`.
"""

import argparse

from sdnjax.models import MODELS, create_model
from sdnjax.models.model_settings import WITHOUT_NECK
from sdnjax.models.summary import summarize
from sdnjax.ops.offsets import NUM_CODES


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(MODELS))
    parser.add_argument("--size", default="512,512", help="height,width of the image")
    parser.add_argument("--classes", type=int, default=150)
    options = parser.parse_args()
    size = tuple(int(n) for n in options.size.split(","))
    print("| network | parameters, with SDN | multiply-adds, with SDN |")
    print("|---|---|---|")
    for name in options.names:
        cells = []
        # DifNet and SegFix have no place for a neck, and SegFix's classes are its directions.
        classes = NUM_CODES if name.startswith("segfix") else options.classes
        for neck in (None,) if name.startswith(WITHOUT_NECK) else (None, "sdn"):
            whole = summarize(create_model(name, num_classes=classes, neck=neck), size)[0]
            cells.append((whole.parameters / 1e6, whole.multiply_adds / 1e9))
        parameters = ", ".join(f"{p:.2f} M" for p, _ in cells)
        multiply_adds = ", ".join(f"{m:.1f} G" for _, m in cells)
        print(f"| `{name}` | {parameters} | {multiply_adds} |", flush=True)


if __name__ == "__main__":
    main()
