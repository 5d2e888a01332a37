#include <stdio.h>
void hello(void);
void bye(void);

int main(void)
{
	printf("greet %s, built %s %s\n", VERSION, __DATE__, __TIME__);
	hello();
	bye();
	return 0;
}
