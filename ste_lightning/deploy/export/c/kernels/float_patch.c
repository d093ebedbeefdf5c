/* Copy the floats that an output pixel reads: [channel of the group][tap], then zeros up to
   `length`. pad: the number outside the image. */
static void float_patch(const shape *s, float pad, const float *restrict x, int pixel, int group,
                        int length, float *restrict patch)
{
    const int pixels = s->height * s->width;
    const int out_y = pixel / s->out_width, out_x = pixel % s->out_width;
    int n = 0;
    for (int c = 0; c < s->channels; ++c) {
        const float *channel = x + (group * s->channels + c) * pixels;
        for (int tap_y = 0; tap_y < s->kernel_height; ++tap_y) {
            for (int tap_x = 0; tap_x < s->kernel_width; ++tap_x, ++n) {
                const int at = pixel_under(s, out_y, out_x, tap_y, tap_x);
                patch[n] = at < 0 ? pad : channel[at];
            }
        }
    }
    for (int k = s->channels * s->kernel_height * s->kernel_width; k < length; ++k) {
        patch[k] = 0;
    }
}
