/* Average pooling of floats, channel by channel. divisor: of every window; 0 for its pixels that
   are inside the image, or inside its padding where `padded`. */
static void average_pool(const shape *s, int padded, int divisor, const float *restrict x,
                         float *restrict y)
{
    for (int c = 0; c < s->channels; ++c, x += s->height * s->width) {
        for (int out_y = 0; out_y < s->out_height; ++out_y) {
            for (int out_x = 0; out_x < s->out_width; ++out_x) {
                float sum = 0;
                int inside = 0, within = 0;
                for (int tap_y = 0; tap_y < s->kernel_height; ++tap_y) {
                    for (int tap_x = 0; tap_x < s->kernel_width; ++tap_x) {
                        const int at = pixel_under(s, out_y, out_x, tap_y, tap_x);
                        within += out_y * s->stride_y + tap_y < s->height + 2 * s->pad_top
                                  && out_x * s->stride_x + tap_x < s->width + 2 * s->pad_left;
                        inside += at >= 0;
                        sum += at < 0 ? 0 : x[at];
                    }
                }
                *y++ = sum / (float)(divisor != 0 ? divisor : padded ? within : inside);
            }
        }
    }
}
