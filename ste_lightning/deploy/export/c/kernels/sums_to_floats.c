/* Write y = scale * sum + bias; scale or bias are NULL where they are 1 or 0.
   apart: floats from one output to the next. */
static void sums_to_floats(const int32_t *restrict sums, int outputs, const float *restrict scale,
                           const float *restrict bias, float *restrict y, int apart)
{
    for (int i = 0; i < outputs; ++i) {
        const float scaled = scale == NULL ? (float)sums[i] : (float)sums[i] * scale[i];
        y[i * apart] = bias == NULL ? scaled : scaled + bias[i];
    }
}
