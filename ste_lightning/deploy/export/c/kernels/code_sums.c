/* Sums of a patch's levels times weights of BITS bits: worth step * code + offset each.

   weights: a row per output; the codes of a byte are row / (8 / BITS) places apart, the first in
   the lowest bits. length: of the patch, a multiple of 8 / BITS. */
static void code_sums_BITS(const uint8_t *restrict weights, int step, int offset, int outputs,
                           const int16_t *restrict patch, int length, int32_t *restrict sums)
{
    const int bytes = length / (8 / BITS);
    int32_t total = 0;
    for (int k = 0; k < length; ++k) {
        total += patch[k];
    }
    for (int i = 0; i < outputs; ++i, weights += bytes) {
        int32_t sum = 0;
        for (int part = 0; part < 8 / BITS; ++part) {
            const int16_t *levels = patch + part * bytes;
            for (int k = 0; k < bytes; ++k) {
                sum += levels[k] * ((weights[k] >> (BITS * part)) & MASK);
            }
        }
        sums[i] = step * sum + offset * total;
    }
}
