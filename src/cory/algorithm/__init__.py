"""The mathematics by itself: losses, advantages, intervals, seeds. Pure functions of tensors."""
