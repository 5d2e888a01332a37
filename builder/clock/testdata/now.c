/* Prints the seconds since 1970, as the C library tells them or, with the argument syscall, the kernel. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct timespec now, again;
	struct timeval day;
	if (argc > 1) {
		syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
		printf("%lld\n", (long long)now.tv_sec);
		return 0;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	timespec_get(&again, TIME_UTC);
	gettimeofday(&day, 0);
	if (again.tv_sec - now.tv_sec > 1 || day.tv_sec - now.tv_sec > 1 || time(0) - now.tv_sec > 1) {
		puts("the functions differ");
		return 1;
	}
	printf("%lld\n", (long long)now.tv_sec);
	return 0;
}
