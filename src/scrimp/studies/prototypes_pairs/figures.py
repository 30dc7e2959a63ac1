"""The figure of the study that is no standard one."""

from __future__ import annotations

from matplotlib.figure import Figure

from scrimp.config import Workspace
from scrimp.studies import figure
from scrimp.studies.comparison import Comparison, draw_differences
from scrimp.studies.plotting import canvas

STUDY = "prototypes-pairs"
METRICS = {"test_r5": "recall at 5", "unseen_average": "average on unseen designers"}


@figure("choices")
def choices(workspace: Workspace, scale: str) -> Figure:
    """Every way to choose pairs, against a random half of them; by two metrics."""
    drawn, axes = canvas(columns=len(METRICS), width=10, height=4)
    for panel, (metric, name) in zip(axes, METRICS.items(), strict=True):
        of = Comparison.of(workspace, STUDY, scale, metric)
        arms = ["full", *(arm for arm in of.methods if arm != "random-50")]
        draw_differences(panel, of, [(arm, "random-50", of.label(arm)) for arm in arms])
        panel.set_title(name)
        panel.set_xlabel("minus that of a random half, points\n(dots: seeds; bar: 95 % interval)")
    return drawn
