"""What `train.py`, `eval.py` and `predict.py` do: data, network and work directory together."""
