/* Quantize a token: levels round(x / scale) within -most - 1 .. most, then zeros up to `length`;
   return the scale max|x| / most. */
static float token_levels(const float *restrict x, int count, int most, float smallest, int length,
                          int16_t *restrict levels)
{
    float largest = smallest;
    for (int k = 0; k < count; ++k) {
        largest = fabsf(x[k]) > largest ? fabsf(x[k]) : largest;
    }
    const float scale = largest / (float)most;
    for (int k = 0; k < count; ++k) {
        const int level = (int)rintf(x[k] / scale);
        levels[k] = (int16_t)(level < -most - 1 ? -most - 1 : level > most ? most : level);
    }
    for (int k = count; k < length; ++k) {
        levels[k] = 0;
    }
    return scale;
}
