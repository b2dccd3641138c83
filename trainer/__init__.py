"""The HiMA-R1 trainer: agents, rewards, memory and the training loop on top of `himakernels`."""
