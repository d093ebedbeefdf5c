/* Write the codes of floats: how many thresholds t have factor * x >= t; of NaN all of them.

   thresholds: `count` of every channel, rising; next_row: 0 where all channels have the same.
   factor: per channel, or NULL for 1. */
static void floats_to_codes(const float *restrict x, int pixels, int channels, int next_pixel,
                            int next_channel, const float *restrict thresholds, int count,
                            int next_row, const float *restrict factor, uint8_t *restrict y)
{
    for (int pixel = 0; pixel < pixels; ++pixel, x += next_pixel) {
        for (int c = 0; c < channels; ++c) {
            const float v = factor == NULL ? x[c * next_channel] : x[c * next_channel] * factor[c];
            const float *t = thresholds + c * next_row;
            int low = 0, high = count; /* the code is within */
            while (low < high) {
                const int middle = (low + high) / 2;
                if (v < t[middle]) {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            *y++ = (uint8_t)low;
        }
    }
}
