"""How many images of a batch one call of a kernel computes.

Images share each panel of weights, and each block of weights that a kernel transforms, where these
leave the caches: so they pass once for several images, instead of once for each. What several
images take beside them is workspace, and kernels of their own: one image a call is the rule, and
more are worth it where the model says that they save time.
"""

from __future__ import annotations

from collections.abc import Callable

from schedules.algorithms import Unsupported
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.plan import Plan

#: Part of the time of one image a call that more images have to save.
MIN_SAVING = 0.03
#: Of several numbers of images, the fewest that are so near to the best: less workspace is taken.
NEARLY = 1.02


def shared_plan(
    single: Plan, batch: int, plan_of: Callable[[Conv2dWorkload], Plan], saving: float
) -> Plan | None:
    """The plan by which images of a batch best share weights; ``None`` if one at a time is best.

    Parameters
    ----------
    single : Plan
        For one image, of one layer.
    batch : int
        Images in all, which every call's divide.
    plan_of : callable
        Plans a workload of several images; raises Unsupported if nothing serves it.
    saving : float
        Part of the time of one image that has to be saved.
    """
    plans = []
    for images in range(2, batch + 1):
        if batch % images == 0:
            try:
                plans.append(plan_of(single.layer.with_batch(images)))
            except Unsupported:
                continue  # more workspace than it may take, or too many elements
    best = min((image_cost(plan) for plan in plans), default=0.0)
    if not plans or best > (1 - saving) * single.cost:
        return None
    return next(plan for plan in plans if image_cost(plan) <= NEARLY * best)


def image_cost(plan: Plan) -> float:
    """Modelled time of one image."""
    return plan.cost / plan.images
