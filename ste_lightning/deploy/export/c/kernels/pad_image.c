/* Copy images with a border of `value`; negative borders cut. */
static void pad_image(const float *restrict x, int channels, int height, int width, int top,
                      int left, int out_height, int out_width, float value, float *restrict y)
{
    for (int c = 0; c < channels; ++c, x += height * width) {
        for (int i = -top; i < out_height - top; ++i) {
            for (int j = -left; j < out_width - left; ++j) {
                const int inside = i >= 0 && i < height && j >= 0 && j < width;
                *y++ = inside ? x[i * width + j] : value;
            }
        }
    }
}
