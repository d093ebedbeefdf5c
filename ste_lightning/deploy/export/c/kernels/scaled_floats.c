/* Write y = scale * sum + bias, as sums_to_floats does, of sums of floats. */
static void scaled_floats(const float *restrict sums, int outputs, const float *restrict scale,
                          const float *restrict bias, float *restrict y, int apart)
{
    for (int i = 0; i < outputs; ++i) {
        const float scaled = scale == NULL ? sums[i] : sums[i] * scale[i];
        y[i * apart] = bias == NULL ? scaled : scaled + bias[i];
    }
}
