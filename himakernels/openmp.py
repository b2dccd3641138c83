"""Set a default for waiting threads of OpenMP: torch's, as the loops of csrc have threads of their own (csrc/workers.h).

Threads that wait for work sleep, unless the environment says otherwise. On a machine that others use as well, a thread that
spins takes a core from the thread that it waits for: beside one busy process `hima sft configs/tiny.yaml` made 0.25 updates a
second, and 6.1 with threads that sleep (two cores). Waking up has a price on a machine of one's own: rollouts of a network of
4.2 M parameters take a fifth longer. GOMP_SPINCOUNT=10000 gets that back where nobody else computes.

OpenMP reads the environment when it is loaded, so an import of this module has an effect before that of torch, and on child
processes.
"""

import os

# Who has set one of them has decided.
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")

if not any(name in os.environ for name in SETTINGS):
    os.environ["OMP_WAIT_POLICY"] = "passive"
