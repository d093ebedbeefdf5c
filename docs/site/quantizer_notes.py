"""About each quantizer: what it is good at, where it fails, its row of results, its options."""

NOTES = {
    "apot": (
        "Levels are sums of powers of two: dense near 0, where weights are. Products are shifts.",
        "The levels are not evenly spaced, so packed layers keep more bits than `bits`.",
    ),
    "bitnet": (
        "Ternary weights of language models (1.58 bits): one scale for the tensor, nothing to tune.",
        "Use it with `token` on the inputs. For images `ternary` or `lsq` with 2 bits is as good.",
    ),
    "dorefa": (
        "No learned parameter: weights are squashed by tanh, inputs are clipped to [0, 1].",
        "Inputs above 1 are cut off. Put batch norm before it.",
    ),
    "libra": (
        "IR-Net's binary weights: balanced signs and a scale that is a power of two.",
        "For weights only. The mean and deviation are computed anew at every step.",
    ),
    "lsbq": (
        "Binary weights with the scale that has the least squared error.",
        "For weights only.",
    ),
    "lsq": (
        "The first choice for 2 to 8 bits: the step size is learned, and starts at a good value.",
        "Needs a learning rate that suits the step; give inputs after a ReLU `signed: false`.",
    ),
    "lsq_plus": (
        "As `lsq` with a learned offset: for inputs that are not symmetric and not positive.",
        "One parameter more to learn. After a ReLU `lsq` is enough.",
    ),
    "n2uq": (
        "Learned thresholds, even levels: the thresholds go where the inputs are.",
        "Slower in training than `lsq`. For activations only; weights take `n2uq_weights`.",
    ),
    "n2uq_weights": ("The weights' half of N2UQ.", "For weights only."),
    "pact": (
        "Learns where to clip the inputs after a ReLU.",
        "Starts with alpha = 10: with few steps of training lower it, or most levels stay unused. "
        "Negative inputs become 0.",
    ),
    "power_of_two": (
        "Levels 0, +-1, +-1/2, +-1/4, ...: products are shifts.",
        "Few levels far from 0. `apot` is more accurate with the same bits.",
    ),
    "progressive": (
        "Begins soft and ends as sign, so that training begins easily.",
        "Needs its schedule. Without it, it stays soft in training and differs in evaluation.",
    ),
    "sign": (
        "One bit. Products of binary weights and inputs are counted, 64 to a word; a packed file is "
        "up to 32 times smaller.",
        "Put batch norm before it, keep the first and the last layer float, clip latent weights.",
    ),
    "step": (
        "One bit with the values 0 and 1, as in the theory.",
        "With the rule `relu` it dies on inputs with a mean: centre them.",
    ),
    "stochastic_sign": (
        "Signs drawn at random in training: a regularizer, and unbiased.",
        "Evaluation uses the plain sign, so that training and evaluation differ.",
    ),
    "stochastic_uniform": (
        "Rounds up or down at random in training, right on average.",
        "Noisy with few bits.",
    ),
    "ternary": (
        "Weights -1, 0 and 1 with a fixed threshold: zeros cost nothing.",
        "The threshold 0.05 fits latent weights of about that size; `twn` finds its own.",
    ),
    "token": (
        "8-bit inputs with a scale for each token: BitNet's partner of `bitnet`.",
        "The scale is computed at every call: no constant to store, a little time.",
    ),
    "twn": (
        "Ternary weights with a threshold and a scale from the weights.",
        "For weights only.",
    ),
    "uniform": (
        "Plain integers with a measured range: what int8 runtimes and ONNX expect.",
        "Below 4 bits a learned step (`lsq`) is more accurate.",
    ),
}

RESULTS = {
    "apot": ("APoT", "apot"),
    "bitnet": ("BitNet b1.58", "bitnet"),
    "dorefa": ("DoReFa", "dorefa"),
    "libra": ("IR-Net", "irnet"),
    "lsq": ("LSQ W4A4", "lsq4"),
    "n2uq": ("N2UQ W2A2", "n2uq"),
    "n2uq_weights": ("N2UQ W2A2", "n2uq"),
    "pact": ("PACT", "pact"),
    "sign": ("rule clipped", "sign"),
    "ternary": ("ternary, 8-bit inputs", "ternary"),
    "token": ("BitNet b1.58", "bitnet"),
    "twn": ("TWN", "twn"),
    "uniform": ("ternary, 8-bit inputs", "ternary"),
}
