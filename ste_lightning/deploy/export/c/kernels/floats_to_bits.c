/* Write the bits of floats: factor * x + offset >= 0 (sign, of NaN too) or > 0 (step).

   factor and offset: per channel, or NULL for x itself.
   next_channel, next_pixel: floats from one to the next. */
static void floats_to_bits(const float *restrict x, int pixels, int channels, int next_pixel,
                           int next_channel, int is_step, const float *restrict factor,
                           const float *restrict offset, uint32_t *restrict y)
{
    for (int pixel = 0; pixel < pixels; ++pixel, x += next_pixel) {
        for (int first = 0; first < channels; first += 32) {
            const int count = channels - first < 32 ? channels - first : 32;
            uint32_t bits = 0;
            for (int i = 0; i < count; ++i) {
                const int c = first + i;
                float v = x[c * next_channel];
                if (offset != NULL) {
                    v = (factor == NULL ? v : v * factor[c]) + offset[c];
                }
                bits |= (uint32_t)(is_step ? v > 0 : !(v < 0)) << i;
            }
            *y++ = bits;
        }
    }
}
