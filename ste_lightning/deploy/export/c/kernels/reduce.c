/* The sum, mean (divided by `divisor`) or largest along an axis of `count`. */
static void reduce(const float *restrict x, int outer, int count, int inner, int of_largest,
                   float divisor, float *restrict y)
{
    for (int at = 0; at < outer * inner; ++at) {
        const float *from = x + at / inner * count * inner + at % inner;
        float sum = 0, largest = from[0];
        for (int k = 0; k < count; ++k) {
            sum += from[k * inner];
            largest = from[k * inner] <= largest ? largest : from[k * inner];
        }
        y[at] = of_largest ? largest : sum / divisor;
    }
}
