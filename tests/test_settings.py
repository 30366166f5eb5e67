"""Settings: Python, command line and JSON are three forms of one thing."""

import dataclasses
import json
import typing

import pytest

from sdnjax.config_file import load_config
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment, experiment_from_dict
from sdnjax.inference.protocols import Evaluation
from sdnjax.losses import CrossEntropy, MaskMatching
from sdnjax.options import OneLineParser, add_overrides, apply_overrides
from sdnjax.settings import differences, from_dict, settings, to_dict


def override(*words):
    parser = OneLineParser()
    add_overrides(parser, Experiment())
    return apply_overrides(Experiment(), parser.parse_args(words))


@pytest.mark.parametrize(
    ("words", "read", "expected"),
    [
        (["--steps", "12"], lambda e: e.steps, 12),
        (["--data.crop_size", "64,96"], lambda e: e.data.crop_size, (64, 96)),
        (["--data.crop_size=64x96"], lambda e: e.data.crop_size, (64, 96)),
        (["--data.flip", "false"], lambda e: e.data.flip, False),
        (["--data.base_size", "none"], lambda e: e.data.base_size, None),
        (["--data.base_size", "2048,512"], lambda e: e.data.base_size, (2048, 512)),
        (["--model.neck.operator", "cdc"], lambda e: e.model.neck.operator, "cdc"),
        (["--optimizer.learning_rate", "1"], lambda e: e.optimizer.learning_rate, 1.0),
        (["--optimizer.clip_norm", "0.5"], lambda e: e.optimizer.clip_norm, 0.5),
        (["--evaluation.scales", ".5,1"], lambda e: e.evaluation.scales, (0.5, 1.0)),
        (
            ["--evaluation.boundary_thresholds", "1"],
            lambda e: e.evaluation.boundary_thresholds,
            (1,),
        ),
    ],
)
def test_command_line_sets_typed_values(words, read, expected):
    value = read(override(*words))
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stepz", "12"], r"unknown option --stepz; did you mean --steps\?"),
        (["--data.cropsize", "1,2"], r"did you mean --data.crop_size\?"),
        (["--crop_size", "1,2"], r"did you mean --data.crop_size\?"),
        (["--steps", "many"], "--steps must be int, not 'many'"),
        (["--steps", "1.5"], "--steps must be int"),
        (["--data.crop_size", "96"], r"--data.crop_size must be int,int"),
        (["--data.flip", "maybe"], "must be true|false"),
        (["--model.neck.operator", "scd"], "must be sdc|conv|cdc|none"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--optimizer.clip_norm", "x"], "must be float or none"),
        (["--evaluation.stride", "900,900", "--evaluation.mode=slide"], "evaluation.stride"),
    ],
)
def test_mistakes_are_one_line(words, message):
    with pytest.raises(InputError, match=message) as error:
        override(*words)
    assert "\n" not in str(error.value)


def test_settings_that_limit_each_other_change_together():
    words = ("--evaluation.window=16,16", "--evaluation.stride=8,8", "--evaluation.mode=slide")
    for order in (words, words[::-1]):
        evaluation = override(*order).evaluation
        assert (evaluation.window, evaluation.stride) == ((16, 16), (8, 8))


def test_json_round_trip_keeps_every_value_and_type():
    experiment = override("--data.base_size", "2048,512", "--evaluation.scales", ".5,1,2")
    again = from_dict(Experiment, json.loads(json.dumps(to_dict(experiment))))
    assert again == experiment


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stps": 3}, "unknown key stps; did you mean steps"),
        ({"data": {"crop": [1, 2]}}, "unknown key data.crop"),
        ({"data": {"crop_size": [1, 2, 3]}}, "data.crop_size must be int,int"),
        ({"model": {"neck": {"reduction": "2"}}}, "model.neck.reduction must be int"),
        ({"data": 3}, "must hold settings"),
        ({"steps": True}, "steps must be int"),
    ],
)
def test_json_is_checked(change, message):
    with pytest.raises(InputError, match=message):
        from_dict(Experiment, change, "config.json")


def test_differences_leave_out_what_does_not_decide_results():
    a = override("--data.dir", "/a", "--log_every", "3")
    run_only = ("--checkpoint_every=9", "--keep_checkpoints=9", "--tensorboard=false")
    b = override("--data.dir", "/b", "--log_every", "7", "--seed", "5", *run_only)
    assert differences(a, b) == ["seed is 0 there, 5 here"]


def test_every_setting_has_help_and_reaches_the_help_text():
    parser = OneLineParser()
    add_overrides(parser, Experiment())
    text = parser.format_help()
    for s in settings(Experiment()):
        assert s.help, s.key
        assert (f"--{s.key} " in text) == s.on_command_line
    assert {s.key for s in settings(Experiment()) if not s.on_command_line} >= {"losses"}
    for shown in ("initial values, order of images, augmentation, dropout [0]", "example [true]"):
        assert shown in " ".join(text.split())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no configuration file"),
        ("x = 1", r"defines no config\(\)"),
        ("def config(): return 3", "returned int, not Experiment"),
        (
            "from sdnjax.experiment import Experiment\n"
            "def config(): return Experiment(steps='many')",
            "steps",
        ),
    ],
)
def test_files_that_are_no_configuration(tmp_path, content, message):
    path = tmp_path / "c.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        load_config(path, Experiment)


def test_shipped_configurations_load_and_differ_as_documented(request):
    folder = request.config.rootpath / "configs"
    found = {p.stem: load_config(p, Experiment) for p in folder.glob("*.py")}
    assert {e.name for e in found.values()} == set(found)
    sdn, plain = found["shapes_fcn_r18_sdn"], found["shapes_fcn_r18"]
    changed = dataclasses.replace(plain, name=sdn.name, model=sdn.model)
    assert changed == sdn
    paper = found["cityscapes_fcn_r50_sdn"]
    assert (paper.optimizer.learning_rate, paper.optimizer.end_learning_rate) == (0.01, 1e-4)
    assert (paper.optimizer.power, paper.optimizer.momentum) == (0.9, 0.9)
    assert paper.optimizer.weight_decay == 5e-4
    assert (paper.steps, paper.batch_size) == (80_000, 8)
    assert paper.data.crop_size == paper.evaluation.window == (769, 769)
    assert paper.evaluation.stride == (513, 513)
    assert paper.model.align_corners


def test_elements_of_a_tuple_are_settings_too():
    experiment = Experiment().resolved()
    parser = OneLineParser()
    add_overrides(parser, experiment)
    words = ["--losses.1.weight", "0.1", "--losses.0.normalize_by=all_pixels"]
    changed = apply_overrides(experiment, parser.parse_args(words))
    assert changed.losses == (
        CrossEntropy(normalize_by="all_pixels"),
        CrossEntropy(weight=0.1, on="auxiliary"),
    )
    again = experiment_from_dict(json.loads(json.dumps(to_dict(changed))))
    assert again == changed
    assert differences(experiment, changed) == [
        "losses.0.normalize_by is valid_pixels there, all_pixels here",
        "losses.1.weight is 0.4 there, 0.1 here",
    ]
    fewer = dataclasses.replace(changed, losses=changed.losses[:1])
    assert differences(changed, fewer)[0] == "losses.1.weight is 0.1 there, not set here"
    with pytest.raises(InputError, match=r"--losses.1.wait; did you mean --losses.1.weight"):
        parser.parse_args(["--losses.1.wait", "1"])
    with pytest.raises(InputError, match=r"CrossEntropy\.weight must be at least 0, not -1"):
        apply_overrides(experiment, parser.parse_args(["--losses.1.weight", "-1"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--optimizer.b1", "0.5"], "--optimizer.b1 has no effect: optimizer.kind is sgd"),
        (
            ["--optimizer.kind=adamw", "--optimizer.momentum=0.5"],
            "--optimizer.momentum has no effect: optimizer.kind is adamw",
        ),
        (["--evaluation.stride", "8,8"], "no effect: evaluation.mode is whole"),
        (["--model.neck.dilation", "2"], "no effect: model.neck.operator is none"),
        (
            ["--model.neck.operator=conv", "--model.neck.similarity=cosine"],
            "no effect: model.neck.operator is conv",
        ),
    ],
)
def test_a_setting_without_effect_is_refused(words, message):
    with pytest.raises(InputError, match=message):
        override(*words)


def test_two_numbers_of_an_older_experiment_are_its_losses():
    old = to_dict(Experiment())
    del old["losses"], old["state_sharding"]
    old |= {"auxiliary_weight": 0.25, "normalize_by": "all_pixels"}
    found = experiment_from_dict(json.loads(json.dumps(old)))
    assert found.losses == (
        CrossEntropy(normalize_by="all_pixels"),
        CrossEntropy(weight=0.25, on="auxiliary", normalize_by="all_pixels"),
    )
    old["model"]["name"] = "fpn_r18"  # it has no auxiliary head
    assert experiment_from_dict(old).losses == (CrossEntropy(normalize_by="all_pixels"),)
    old["model"]["name"] = "maskformer_r50-d32"  # to which neither number meant anything
    assert experiment_from_dict(old).resolved().losses == (MaskMatching(),)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "10000000000000000000000"),
        ("seed", str(2**32)),
        ("steps", "0"),
        ("model.dropout", "2"),
        ("model.dropout", "1"),
        ("model.neck.reduction", "0"),
        ("optimizer.momentum", "2"),
        ("optimizer.momentum", "1"),
        ("optimizer.learning_rate", "nan"),
        ("optimizer.end_learning_rate", "inf"),
        ("optimizer.power", "-1"),
        ("optimizer.clip_norm", "0"),
        ("optimizer.warmup_steps", "1000"),
        ("losses.0.weight", "nan"),
        ("evaluation.boundary_thresholds", "1.5"),
        ("evaluation.boundary_thresholds", "0"),
        ("evaluation.boundary_thresholds", "1,1"),
        ("evaluation.scales", "nan"),
        ("evaluation.scales", "1,1"),
        ("evaluation.boundary_iou_ratio", "1"),
        ("evaluation.window", "0,5"),
        ("evaluation.trimap_widths", "0"),
        ("data.workers", "0"),
        ("data.superpixels", "0"),
        ("data.scale_range", "0.5,inf"),
    ],
)
def test_impossible_numbers_are_refused_where_they_are_declared(key, value):
    parser = OneLineParser()
    experiment = Experiment(losses=(CrossEntropy(),), evaluation=Evaluation(mode="slide"))
    add_overrides(parser, experiment)
    with pytest.raises(InputError) as error:
        apply_overrides(experiment, parser.parse_args([f"--{key}", value]))
    assert key.split(".")[-1] in str(error.value) and "\n" not in str(error.value)


def test_every_number_has_bounds_or_none_is_needed():
    """A new setting is thought about: which numbers make no sense?"""
    free = {"data.mean", "data.std", "data.base_size", "data.scale_range", "data.max_class_share"}
    free |= {"data.value_range"}
    free |= {"evaluation.resize_to"}  # checked by what they mean, beside others

    def sections(config, prefix=""):
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                yield from sections(value, f"{prefix}{field.name}.")
            else:
                yield prefix + field.name, field, typing.get_type_hints(type(config))[field.name]

    for key, field, kind in sections(Experiment()):
        text = str(kind)
        if ("int" in text or "float" in text) and "Literal" not in text and key not in free:
            bounds = field.metadata.get("bounds", {})
            assert any(limit is not None for limit in bounds.values()), key
