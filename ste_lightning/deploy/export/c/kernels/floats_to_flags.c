/* Write the bits of floats as floats_to_bits does, a byte each. */
static void floats_to_flags(const float *restrict x, int pixels, int channels, int next_pixel,
                            int next_channel, int is_step, const float *restrict factor,
                            const float *restrict offset, uint8_t *restrict y)
{
    for (int pixel = 0; pixel < pixels; ++pixel, x += next_pixel) {
        for (int c = 0; c < channels; ++c) {
            float v = x[c * next_channel];
            if (offset != NULL) {
                v = (factor == NULL ? v : v * factor[c]) + offset[c];
            }
            *y++ = is_step ? v > 0 : !(v < 0);
        }
    }
}
