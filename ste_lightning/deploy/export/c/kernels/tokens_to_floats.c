/* Write y = scale * sum * worth + bias, as sums_to_floats does, of a token's sums. */
static void tokens_to_floats(const int32_t *restrict sums, int outputs,
                             const float *restrict scale, float worth,
                             const float *restrict bias, float *restrict y)
{
    for (int i = 0; i < outputs; ++i) {
        const float scaled = (scale == NULL ? (float)sums[i] : (float)sums[i] * scale[i]) * worth;
        y[i] = bias == NULL ? scaled : scaled + bias[i];
    }
}
