"""One or two sentences about each backward rule: what it is good at, and where it fails."""

NOTES = {
    "approx": (
        "Its slope is largest at 0, where a small move flips the sign, so it wastes little gradient "
        "on inputs that are far from flipping. Few samples are enough in the theory lab.",
        "Elements with |x| > 1 get no gradient. Clip latent weights to [-1, 1].",
    ),
    "arctan": (
        "Smooth, with heavy tails: no element is ever cut off. Popular in spiking networks.",
        "Far elements keep a small gradient for ever, which is noise once they are right.",
    ),
    "clipped": (
        "The usual choice, and the default of `sign`: cheap, one bit of memory for each element, "
        "and the most accurate rule in the table of digits.",
        "Elements with |x| > width get no gradient. Clip latent weights, or they stay outside.",
    ),
    "clipped_relu": (
        "For a step {0, 1}: it ignores both negative and large inputs. With many equal hidden "
        "units it needs the fewest samples of the three rules of the paper.",
        "If every input of a unit is negative, the gradient is zero and the unit is dead: centre "
        "the inputs.",
    ),
    "custom": (
        "A function of your own, without a class. A derivative that cannot descend is refused.",
        "Without `virtual=` its integral is found by quadrature, which is slower. A checkpoint "
        "cannot keep a function: give it again when you load.",
    ),
    "ede": (
        "IR-Net's rule: nearly the identity at the start, nearly the true derivative at the end. "
        "Give it the schedule `ede`.",
        "Late in training t is large, and nearly all elements have no gradient.",
    ),
    "fourier": (
        "The first terms of a square wave's Fourier series; wide and smooth with the defaults.",
        "Several times slower than a window, because it computes sines.",
    ),
    "gaussian": (
        "A bell. Its width `sigma` should be about the standard deviation of the inputs.",
        "With a sigma far below the inputs' deviation hardly any element has a gradient.",
    ),
    "identity": (
        "The original straight-through estimator. It stores nothing for the backward pass, cannot "
        "die, and is never cut off.",
        "Far elements are pushed as strongly as near ones. In networks with two binary layers it "
        "fails in the theory lab, and more samples do not help.",
    ),
    "leaky": (
        "As `clipped`, but saturated elements keep a small gradient and can come back.",
        "One parameter more. In the table of digits it is no better than `clipped`.",
    ),
    "magnitude_aware": (
        "For weights: the gradient of a channel grows with the mean size of its latent weights.",
        "Not for activations. The effective learning rate follows the latent weights' size.",
    ),
    "relu": (
        "The rule of the paper for a step {0, 1}; its theory is the best known.",
        "Inputs with a mean kill it: if all inputs of a unit are negative, the gradient is exactly "
        "zero. It needs more samples than a window around 0.",
    ),
    "reste": (
        "Between the identity (o = 1) and the true derivative of sign (large o); schedule `reste` "
        "moves o during training.",
        "Very steep near 0; the part |x| <= m is cut to a finite slope.",
    ),
    "sigmoid": (
        "Smooth and wide. Larger `slope` makes it narrower.",
        "With slope 1 it is wider than most inputs, and acts nearly like the identity.",
    ),
    "superspike": (
        "Smooth, with its peak at 0 and slow tails. From spiking networks.",
        "Not differentiable at 0, which matters only for second derivatives.",
    ),
    "swish": (
        "Negative for beta |x| > 2.4: far elements are pushed back towards 0, where they can flip. "
        "Few samples are enough in the theory lab.",
        "The negative part leads uphill where every input is far from 0. Check beta against the "
        "spread of the inputs.",
    ),
    "tanh": (
        "Smooth, and close to `clipped`. DSQ and many others use it.",
        "Reads and stores the whole input for the backward pass, where `clipped` stores one bit.",
    ),
    "triangular": (
        "A hat around 0. In the theory lab it needs about a third of ReLU's samples, and with two "
        "binary layers fewer than `clipped` of the same width from n = 32 on.",
        "Elements with |x| > width get no gradient.",
    ),
}
