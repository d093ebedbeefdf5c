/* Write a code per output: how many thresholds its sum has reached, rising; count minus that where
   it falls. least: [count][outputs]. falling: 1 or 0 per output, or NULL. */
static void sums_to_codes(const int32_t *restrict sums, int outputs, int count,
                          const threshold *restrict least, const uint8_t *restrict falling,
                          uint8_t *restrict y)
{
    for (int i = 0; i < outputs; ++i) {
        y[i] = 0;
    }
    for (int j = 0; j < count; ++j) {
        for (int i = 0; i < outputs; ++i) {
            y[i] = (uint8_t)(y[i] + (sums[i] >= least[j * outputs + i]));
        }
    }
    for (int i = 0; falling != NULL && i < outputs; ++i) {
        y[i] = (uint8_t)(falling[i] ? count - y[i] : y[i]);
    }
}
