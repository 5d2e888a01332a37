#include <stdio.h>

const char *greeting(void);

int main(void) {
	printf("%s, built %s\n", greeting(), BUILT);
	return 0;
}
