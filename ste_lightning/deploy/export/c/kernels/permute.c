/* Copy with axes in another order: sizes of the result, and where its axes step in x. */
static void permute(const float *restrict x, const int sizes[4], const int steps[4],
                    float *restrict y)
{
    for (int a = 0; a < sizes[0]; ++a) {
        for (int b = 0; b < sizes[1]; ++b) {
            for (int c = 0; c < sizes[2]; ++c) {
                for (int d = 0; d < sizes[3]; ++d) {
                    *y++ = x[a * steps[0] + b * steps[1] + c * steps[2] + d * steps[3]];
                }
            }
        }
    }
}
