import numpy as np

from pipeline.evaluation.bootstrap import intervals


def test_intervals_are_stratified_and_cover_what_the_binomial_law_says():
    labels = np.repeat([0, 1], [100, 300])
    right = np.concatenate([np.arange(100) < 90, np.arange(300) < 240])

    def metric(rows):
        assert (labels[rows] == 0).sum() == 100 and len(rows) == 400
        return {"recall of 0": right[rows][labels[rows] == 0].mean(), "prevalence": labels[rows].mean()}

    ends = intervals(metric, labels, resamples=2000)
    assert ends["prevalence"] == (0.75, 0.75)
    np.testing.assert_allclose(ends["recall of 0"], 0.9 + 1.96 * 0.03 * np.array([-1, 1]), atol=0.012)
    assert ends == intervals(metric, labels, resamples=2000)
    assert ends != intervals(metric, labels, resamples=2000, seed=1)
