/* Copy the levels (step * code + offset) that an output pixel reads: [tap][channel of the group],
   then zeros up to `length`. pad: the level outside the image. */
static void level_patch(const shape *s, int step, int offset, int pad, const uint8_t *restrict x,
                        int pixel, int group, int length, int16_t *restrict patch)
{
    const int out_y = pixel / s->out_width, out_x = pixel % s->out_width;
    int n = 0;
    for (int tap_y = 0; tap_y < s->kernel_height; ++tap_y) {
        for (int tap_x = 0; tap_x < s->kernel_width; ++tap_x, n += s->channels) {
            const int at = pixel_under(s, out_y, out_x, tap_y, tap_x);
            if (at < 0) {
                for (int c = 0; c < s->channels; ++c) {
                    patch[n + c] = (int16_t)pad;
                }
                continue;
            }
            const uint8_t *codes = x + (at * s->groups + group) * s->channels;
            for (int c = 0; c < s->channels; ++c) {
                patch[n + c] = (int16_t)(step * codes[c] + offset);
            }
        }
    }
    for (int k = s->channels * s->kernel_height * s->kernel_width; k < length; ++k) {
        patch[k] = 0;
    }
}
