/* Max pooling of bits is OR; AND where the bit of `flips` is 1 (flips may be NULL). */
static void pool_bits(const shape *s, const uint32_t *restrict x, const uint32_t *restrict flips,
                      uint32_t *restrict y)
{
    const int words = (s->channels + 31) / 32;
    for (int pixel = 0; pixel < s->out_height * s->out_width; ++pixel) {
        for (int k = 0; k < words; ++k, ++y) {
            const uint32_t flip = flips == NULL ? 0 : flips[k];
            *y = 0;
            for (int tap = 0; tap < s->kernel_height * s->kernel_width; ++tap) {
                const int at = pixel_under(s, pixel / s->out_width, pixel % s->out_width,
                                           tap / s->kernel_width, tap % s->kernel_width);
                *y |= at < 0 ? 0 : x[at * words + k] ^ flip;
            }
            *y ^= flip;
        }
    }
}
