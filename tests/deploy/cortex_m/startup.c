/* The vectors of a Cortex-M: where the stack begins, newlib's start, and what catches faults. */
extern void _start(void);
extern char stack_top[];

static void halt(void)
{
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static const struct {
    char *stack;
    void (*handlers[15])(void);
} vectors = {stack_top, {_start, halt, halt, halt, halt}};
