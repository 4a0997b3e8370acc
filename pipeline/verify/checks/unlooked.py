"""What was not looked at, and why: the last line of a report."""

import jax

from ..trial import CHECKS, Trial


def not_looked_at(trial: Trial) -> tuple[str, ...]:
    """Each as "what (why)"."""
    judgement = trial.judgement
    skipped = [check for check in CHECKS if check not in trial.checks]
    lines = [f"{', '.join(skipped)} (left out of checks)"] if skipped else []
    if not judgement.observations:
        return (*lines, "gradients (nothing could be compared)")
    if not trial.holds():
        lines.append("all that comes after a wrong gradient")
    if trial.order < 2:
        lines.append("second derivatives (order=2 compares them)")
    elif not any(row.check == "second derivative" for row in judgement.rows) and trial.holds():
        lines.append("second derivatives (there are none to compare)")
    if len(jax.devices()) == 1 and "devices" in trial.checks:
        lines.append("several devices (there is one)")
    if trial.domain.sizes == "fixed":
        lines.append("other sizes (they are fixed)")
    elif "sizes" in trial.checks and trial.holds() and not any(o.probe.kind == "sizes" for o in judgement.observations):
        lines.append("other sizes (the function, or the rule, takes none)")
    if judgement.outside:
        lines.append(f"{', '.join(judgement.outside)} (outside of the domain)")
    if judgement.not_finite:
        lines.append(f"{', '.join(judgement.not_finite)} (the function itself is not finite there)")
    dtypes = [dtype for dtype, _ in trial.native_arrays()]
    checked = dict.fromkeys(["float64", *dtypes])
    lines.append(f"precisions other than {' and '.join(checked)} (the arguments' own)")
    return tuple(lines)
