/* Max pooling of floats, channel by channel; NaN stays. */
static void max_pool(const shape *s, const float *restrict x, float *restrict y)
{
    for (int c = 0; c < s->channels; ++c, x += s->height * s->width) {
        for (int pixel = 0; pixel < s->out_height * s->out_width; ++pixel) {
            float largest = -INFINITY;
            for (int tap = 0; tap < s->kernel_height * s->kernel_width; ++tap) {
                const int at = pixel_under(s, pixel / s->out_width, pixel % s->out_width,
                                           tap / s->kernel_width, tap % s->kernel_width);
                if (at >= 0 && !(x[at] <= largest)) {
                    largest = x[at];
                }
            }
            *y++ = largest;
        }
    }
}
