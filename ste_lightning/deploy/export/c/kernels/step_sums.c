/* Sums of products of 0 or 1 with signs for one output pixel: 2 ones(x & w) - ones(x).

   x: bits, channels of a pixel in 32-bit words, the first in the lowest bit; bits left over are 0.
   weights: [tile of TILE outputs][tap][word][output of the tile].
   pad: the bits of a pixel outside the image; NULL where that is worth 0. */
static void step_sums_TILE(const shape *s, const uint32_t *restrict weights,
                           const uint32_t *restrict x, const uint32_t *pad, int pixel,
                           int32_t *restrict sums)
{
    const int words = (s->channels + 31) / 32;
    const int out_y = pixel / s->out_width, out_x = pixel % s->out_width;
    for (int first = 0; first < s->outputs; first += TILE) {
        int32_t both[TILE] = {0};
        int32_t alone = 0;
        for (int tap_y = 0; tap_y < s->kernel_height; ++tap_y) {
            for (int tap_x = 0; tap_x < s->kernel_width; ++tap_x, weights += TILE * words) {
                const int at = pixel_under(s, out_y, out_x, tap_y, tap_x);
                const uint32_t *bits = at < 0 ? pad : x + at * words;
                if (bits == NULL) {
                    continue;
                }
                for (int k = 0; k < words; ++k) {
                    alone += ones(bits[k]);
                    for (int i = 0; i < TILE; ++i) {
                        both[i] += ones(bits[k] & weights[TILE * k + i]);
                    }
                }
            }
        }
        for (int i = 0; i < TILE && first + i < s->outputs; ++i) {
            sums[first + i] = 2 * both[i] - alone;
        }
    }
}
