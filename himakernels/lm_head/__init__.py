"""The language-model head: hidden states -> log-probabilities and gradients, with one chunk of logits at a time."""
