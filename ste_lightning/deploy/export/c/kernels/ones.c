/* Return how many bits of a word are 1. */
static inline int32_t ones(uint32_t word)
{
#if defined(__GNUC__)
    return __builtin_popcount(word);
#else
    static const unsigned char of_nibble[16] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};
    int32_t count = 0;
    for (; word != 0; word >>= 4) {
        count += of_nibble[word & 15];
    }
    return count;
#endif
}
