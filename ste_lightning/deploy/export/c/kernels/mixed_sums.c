/* Sums of floats times weights of BITS bits, laid out as in code_sums; 8 partial sums each. */
static void mixed_sums_BITS(const uint8_t *restrict weights, int step, int offset, int outputs,
                            const float *restrict patch, int length, float *restrict sums)
{
    const int bytes = length / (8 / BITS);
    for (int i = 0; i < outputs; ++i, weights += bytes) {
        float part[8] = {0}, sum = 0;
        for (int half = 0; half < 8 / BITS; ++half) {
            const float *x = patch + half * bytes;
            int k = 0;
            for (; k + 8 <= bytes; k += 8) {
                for (int j = 0; j < 8; ++j) {
                    const int code = (weights[k + j] >> (BITS * half)) & MASK;
                    part[j] += x[k + j] * (float)(step * code + offset);
                }
            }
            for (; k < bytes; ++k) {
                sum += x[k] * (float)(step * ((weights[k] >> (BITS * half)) & MASK) + offset);
            }
        }
        for (int j = 0; j < 8; ++j) {
            sum += part[j];
        }
        sums[i] = sum;
    }
}
