import subprocess
import sys

LIGHT = ["", ".archives", ".buckets", ".builders", ".cache", ".config", ".evaluation"]
LIGHT += [".examine", ".examples", ".images", ".items", ".label_spaces", ".layouts", ".mat"]
LIGHT += [".label_spaces.class_file", ".prepare", ".prepared", ".shapes", ".sources"]
LIGHT += [".statistics", ".superpixels"]


def test_nothing_imports_tensorflow_before_it_is_needed(camvid_dir):
    code = (
        "import sys\n"
        + "".join(f"import sdnjax.data{name}\n" for name in LIGHT)
        + "from sdnjax.data import Data, evaluation_examples, open_source\n"
        + f"data = Data(name='camvid', dir={str(camvid_dir)!r})\n"
        + "assert len(open_source(data, 'train')) == 7\n"
        + "assert len(list(evaluation_examples(data))) == 4\n"
        + "heavy = {'tensorflow', 'tensorflow_datasets', 'jax', 'torch', 'skimage'}\n"
        + "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_public_names_exist():
    import sdnjax.data

    for name in sdnjax.data.__all__:
        assert getattr(sdnjax.data, name) is not None
        assert name in dir(sdnjax.data)
    assert not hasattr(sdnjax.data, "nothing")
