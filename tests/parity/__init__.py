"""Networks of real PyTorch implementations; a module skips where its own is not installed.

`harness` compares, `mmseg_reference` builds mmsegmentation's networks. A test module says which
configuration there is which name here, which of their submodules is which of our outputs, and
calls `compare_outputs` and `compare_step`.
"""
