/* Softmax along an axis of `count`, or its logarithm. inner: numbers from one to the next. */
static void softmax(const float *x, int outer, int count, int inner, int logarithm, float *y)
{
    for (int at = 0; at < outer * inner; ++at) {
        const int first = at / inner * count * inner + at % inner;
        float largest = x[first], sum = 0;
        for (int k = 1; k < count; ++k) {
            largest = x[first + k * inner] > largest ? x[first + k * inner] : largest;
        }
        for (int k = 0; k < count; ++k) {
            sum += expf(x[first + k * inner] - largest);
        }
        for (int k = 0; k < count; ++k) {
            const float v = x[first + k * inner] - largest;
            y[first + k * inner] = logarithm ? v - logf(sum) : expf(v) / sum;
        }
    }
}
