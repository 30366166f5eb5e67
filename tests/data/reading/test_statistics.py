import numpy as np

from sdnjax.data.reading.statistics import Statistics


def test_sums_of_parts_are_the_statistics_of_all_pixels():
    rng = np.random.default_rng(0)
    total, values, labels, holds = Statistics.empty(4), [], [], []
    for shape in ((5, 7), (9, 2), (5, 7)):
        image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        label = rng.choice(np.array([0, 1, 3, 255], np.uint8), shape)
        total = total + Statistics.of(image, label, 4)
        values.append(image.reshape(-1, 3).astype(np.float64))
        labels.append(label.ravel())
        holds.append(np.unique(label))
    values, labels = np.concatenate(values), np.concatenate(labels)
    mean, std = total.moments()
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, values.std(axis=0), rtol=1e-12)
    for k, value in enumerate((0, 1, 2, 3, 255)):
        assert total.pixels[k] == (labels == value).sum()
        assert total.images[k] == sum(value in found for found in holds)
    assert total.sizes == {(5, 7): 2, (9, 2): 1}
    assert total.examples == 3


def test_no_example_has_no_moments():
    mean, std = Statistics.empty(3).moments()
    assert np.isnan(mean).all()
    assert np.isnan(std).all()
