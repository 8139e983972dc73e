"""The transform graph: fitted on the vocabulary window, applied to the training rows. TFT and
TensorFlow.
"""
