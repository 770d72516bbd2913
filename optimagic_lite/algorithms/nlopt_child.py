"""The script of the process in which StoGO runs; it knows NLopt and nothing of this package.

Its input is the task as a line of JSON, then value and gradient at each point; its output is the
points. Numbers are float64 in the order of bytes of the machine.
"""

import json
import os
import signal
import sys
from typing import Any


def main() -> None:
    """Minimize; whoever asked for it ends the process."""
    # it is the parent who ends at Ctrl-C
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    points, answers = os.fdopen(os.dup(1), "wb", buffering=0), sys.stdin.buffer
    # what StoGO prints is no point
    os.dup2(2, 1)
    task = json.loads(answers.readline())
    sys.path[:] = task["path"]
    import nlopt
    import numpy as np

    def objective(x: Any, gradient: Any) -> float:
        if np.isnan(x).any():
            os.write(2, b"A local search came to parameters that are no numbers.")
            os._exit(1)
        try:
            points.write(x.tobytes())
            answer = np.frombuffer(answers.read(8 * (len(x) + 1)))
            gradient[:] = answer[1:]
        except BaseException:
            # the parent is gone, and StoGO goes on after exceptions
            os._exit(1)
        return float(answer[0])

    opt = nlopt.opt(getattr(nlopt, task["constant"]), len(task["lower"]))
    opt.set_lower_bounds(task["lower"])
    opt.set_upper_bounds(task["upper"])
    opt.set_min_objective(objective)
    if task["seed"] is None:
        nlopt.srand_time()
    else:
        nlopt.srand(task["seed"])
    # StoGO does not use the start
    opt.optimize(task["lower"])


if __name__ == "__main__":
    main()
