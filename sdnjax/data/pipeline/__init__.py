"""From examples to batches: order, crops and colours, the tf.data pipeline."""
