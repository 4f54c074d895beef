"""Have the blocks of one tuple measured by the process of their lane (`lane_process`), and wait for them.

Not one of snakemake's scripts but a command, without its preamble and our libraries: see `ask_lane`.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from quantbench.ask_lane import main

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # the run has said it
        sys.exit(130)
