"""What a recipe needs on machines that one does not have: its step compiled for described devices.

Nothing runs. XLA says how much memory the step takes and what devices send each other; operations
are counted here, because XLA counts none for GPUs and the body of a loop once.
"""
