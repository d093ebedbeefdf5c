/* Rows minus their mean, divided by their deviation; times scale plus bias, where not NULL. */
static void layer_norm(const float *x, int rows, int count, float epsilon, const float *scale,
                       const float *bias, float *y)
{
    for (int row = 0; row < rows; ++row, x += count, y += count) {
        float mean = 0, variance = 0;
        for (int k = 0; k < count; ++k) {
            mean += x[k];
        }
        mean /= (float)count;
        for (int k = 0; k < count; ++k) {
            variance += (x[k] - mean) * (x[k] - mean);
        }
        const float inverse = 1 / sqrtf(variance / (float)count + epsilon);
        for (int k = 0; k < count; ++k) {
            const float v = (x[k] - mean) * inverse;
            y[k] = (scale == NULL ? v : v * scale[k]) + (bias == NULL ? 0 : bias[k]);
        }
    }
}
