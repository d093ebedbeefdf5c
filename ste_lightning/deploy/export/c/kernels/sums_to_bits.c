/* Write a bit per output: whether sum >= least; the other way where the bit of `falling` is 1. */
static void sums_to_bits(const int32_t *restrict sums, int outputs,
                         const threshold *restrict least, const uint32_t *restrict falling,
                         uint32_t *restrict y)
{
    for (int first = 0; first < outputs; first += 32) {
        const int count = outputs - first < 32 ? outputs - first : 32;
        uint32_t bits = 0;
        for (int i = 0; i < count; ++i) {
            bits |= (uint32_t)(sums[first + i] >= least[first + i]) << i;
        }
        y[first / 32] = falling == NULL ? bits : bits ^ falling[first / 32];
    }
}
