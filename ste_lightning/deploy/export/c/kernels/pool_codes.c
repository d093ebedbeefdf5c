/* Max pooling of codes; min where the byte of `flips` is 255 (flips may be NULL). */
static void pool_codes(const shape *s, const uint8_t *restrict x, const uint8_t *restrict flips,
                       uint8_t *restrict y)
{
    for (int pixel = 0; pixel < s->out_height * s->out_width; ++pixel) {
        for (int c = 0; c < s->channels; ++c, ++y) {
            const int flip = flips == NULL ? 0 : flips[c];
            int largest = 0;
            for (int tap = 0; tap < s->kernel_height * s->kernel_width; ++tap) {
                const int at = pixel_under(s, pixel / s->out_width, pixel % s->out_width,
                                           tap / s->kernel_width, tap % s->kernel_width);
                const int code = at < 0 ? 0 : x[at * s->channels + c] ^ flip;
                largest = code > largest ? code : largest;
            }
            *y = (uint8_t)(largest ^ flip);
        }
    }
}
