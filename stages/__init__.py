"""A thin script per stage of the pipeline."""

import sys

from wsol_core.core.errors import stop_in_one_line

if sys.argv[0] == "-m":  # a stage starts: what it imports takes seconds, in which it can be stopped too
    stop_in_one_line()
