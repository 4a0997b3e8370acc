"""The tasks: ``python -m tasks.NAME``."""

import signal
import sys

if sys.argv[0] == "-m":  # a task is being started: Ctrl-C amid its imports ends it as any program, without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)
