"""LSTM layers that take all steps in one operation of TensorFlow: for exported graphs, which do not learn."""

import keras
import tensorflow as tf


class BlockRNN(keras.layers.RNN):
    """What `keras.layers.RNN` gives for stacked LSTM cells in float32, in inference, in less time.

    A loop in the graph spends most of its time between the small operations of a step. `BlockLSTMV2` is one operation
    for all steps of a layer, in TensorFlow's core since 2.2, and has kernels for CPU and GPU. It has no dropout.
    """

    def call(self, sequences, initial_state=None, mask=None, training=False):
        steps = tf.transpose(sequences, [1, 0, 2])
        for cell in self.cell.cells:
            start = tf.zeros([tf.shape(steps)[1], cell.units])
            peephole = tf.zeros([cell.units])
            steps = tf.raw_ops.BlockLSTMV2(
                seq_len_max=tf.shape(steps, tf.int64)[0],
                x=steps,
                cs_prev=start,
                h_prev=start,
                w=tf.concat([cell.kernel, cell.recurrent_kernel], axis=0),
                wci=peephole,
                wcf=peephole,
                wco=peephole,
                b=cell.bias,
                cell_clip=0.0,
                use_peephole=False,
            ).h
        return tf.transpose(steps, [1, 0, 2]) if self.return_sequences else steps[-1]
