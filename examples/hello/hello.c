#include <stdio.h>

int main(void)
{
	puts("Hello from a build that comes out the same every time.");
	return 0;
}
