import os
import subprocess
import sys

LIGHT = ["", ".cache", ".data_settings", ".locks", ".prepare", ".sources", ".sets"]
LIGHT += [".preparing.archives", ".preparing.command", ".preparing.examine", ".preparing.slic"]
LIGHT += [".reading.buckets", ".reading.prepared", ".reading.statistics", ".pipeline.in_order"]


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
        assert callable(getattr(sdnjax.data, name))
        assert callable(getattr(sdnjax.data, name))  # and not a module of that name from now on
        assert name in dir(sdnjax.data)
    assert not hasattr(sdnjax.data, "nothing")


def test_flags_for_the_other_xla_end_nothing():
    """TensorFlow's XLA, which compiles the augmentation, dies of flags that only JAX's knows."""
    code = (
        "import os, numpy as np\n"
        "from sdnjax.data import Data, augment\n"
        "image, label = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8)\n"
        "augment(image, label, np.full(34, 0.5, np.float32), Data(crop_size=(8, 8)))\n"
        "assert os.environ['XLA_FLAGS'] == '--xla_flag_of_tomorrow=1'\n"
        "print('alive')\n"
    )
    environment = {**os.environ, "XLA_FLAGS": "--xla_flag_of_tomorrow=1"}
    command = [sys.executable, "-W", "error", "-c", code]
    options = {"env": environment, "capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run(command, check=False, **options)
    assert (done.stdout, done.stderr, done.returncode) == ("alive\n", "", 0)
