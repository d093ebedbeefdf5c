/* What all kernels share. Images of codes are stored pixel by pixel, floats as torch stores them:
   channel by channel. */
typedef struct {
    int height, width, channels;           /* of the input; channels of one group */
    int kernel_height, kernel_width;       /* taps */
    int stride_y, stride_x, pad_top, pad_left, dilation_y, dilation_x;
    int out_height, out_width, outputs;    /* outputs of one group */
    int groups;
} shape;

/* Return which input pixel a tap of an output pixel reads, -1 outside the image. */
static inline int pixel_under(const shape *s, int out_y, int out_x, int tap_y, int tap_x)
{
    const int y = out_y * s->stride_y - s->pad_top + tap_y * s->dilation_y;
    const int x = out_x * s->stride_x - s->pad_left + tap_x * s->dilation_x;
    return y < 0 || y >= s->height || x < 0 || x >= s->width ? -1 : y * s->width + x;
}
