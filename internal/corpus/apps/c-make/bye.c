#include <stdio.h>
void bye(void) { puts("bye"); }
