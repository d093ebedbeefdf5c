/* Sums of every channel by itself for one output pixel; weights of BITS bits.

   x: codes. weights: a row per tap, laid out as in code_sums; bytes: of a row.
   A weight is worth step * code + offset, an input x_step * code + x_offset, outside the image pad. */
static void depthwise_sums_BITS(const shape *s, const uint8_t *restrict weights, int step,
                                int offset, int bytes, const uint8_t *restrict x, int x_step,
                                int x_offset, int pad, int pixel, int32_t *restrict sums)
{
    const int channels = s->groups;
    const int out_y = pixel / s->out_width, out_x = pixel % s->out_width;
    for (int c = 0; c < channels; ++c) {
        sums[c] = 0;
    }
    for (int tap_y = 0; tap_y < s->kernel_height; ++tap_y) {
        for (int tap_x = 0; tap_x < s->kernel_width; ++tap_x, weights += bytes) {
            const int at = pixel_under(s, out_y, out_x, tap_y, tap_x);
            for (int part = 0; part < 8 / BITS; ++part) {
                const int first = part * bytes;
                const int count = channels - first < bytes ? channels - first : bytes;
                for (int k = 0; k < count; ++k) {
                    const int level = at < 0 ? pad : x_step * x[at * channels + first + k] + x_offset;
                    const int code = (weights[k] >> (BITS * part)) & MASK;
                    sums[first + k] += level * (step * code + offset);
                }
            }
        }
    }
}
