/* Adaptive pooling of floats, channel by channel: the average, or the largest, of each window from
   floor(i n / m) to ceil((i + 1) n / m). */
static void adaptive_pool(int channels, int height, int width, int out_height, int out_width,
                          int of_largest, const float *restrict x, float *restrict y)
{
    for (int c = 0; c < channels; ++c, x += height * width) {
        for (int i = 0; i < out_height; ++i) {
            const int top = i * height / out_height;
            const int bottom = ((i + 1) * height + out_height - 1) / out_height;
            for (int j = 0; j < out_width; ++j) {
                const int left = j * width / out_width;
                const int right = ((j + 1) * width + out_width - 1) / out_width;
                float sum = 0, largest = -INFINITY;
                for (int v = top; v < bottom; ++v) {
                    for (int u = left; u < right; ++u) {
                        const float value = x[v * width + u];
                        sum += value;
                        largest = value <= largest ? largest : value;
                    }
                }
                *y++ = of_largest ? largest : sum / (float)((bottom - top) * (right - left));
            }
        }
    }
}
