/* Sums of floats times float weights, a row per output; 8 partial sums each. */
static void float_sums(const float *restrict weights, int outputs, const float *restrict patch,
                       int length, float *restrict sums)
{
    for (int i = 0; i < outputs; ++i, weights += length) {
        float part[8] = {0};
        int k = 0;
        for (; k + 8 <= length; k += 8) {
            for (int j = 0; j < 8; ++j) {
                part[j] += patch[k + j] * weights[k + j];
            }
        }
        float sum = 0;
        for (int j = 0; j < 8; ++j) {
            sum += part[j];
        }
        for (; k < length; ++k) {
            sum += patch[k] * weights[k];
        }
        sums[i] = sum;
    }
}
