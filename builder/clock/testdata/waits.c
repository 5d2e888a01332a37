/* Waits a fifth of a second with every function that waits until a point in time. Prints ok, or what took
 * another time. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static struct timespec later(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	t.tv_nsec += 200000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return t;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, held = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER, monotonic;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t sem;

static void wait_cond(void)
{
	struct timespec t = later(CLOCK_REALTIME);
	pthread_mutex_lock(&mutex);
	pthread_cond_timedwait(&cond, &mutex, &t);
	pthread_mutex_unlock(&mutex);
}

static void wait_monotonic(void)
{
	struct timespec t = later(CLOCK_MONOTONIC);
	pthread_mutex_lock(&mutex);
	pthread_cond_timedwait(&monotonic, &mutex, &t);
	pthread_mutex_unlock(&mutex);
}

static void *lock_held(void *arg)
{
	struct timespec t = later(CLOCK_REALTIME);
	(void)arg;
	pthread_mutex_timedlock(&held, &t);
	return 0;
}

static void wait_mutex(void)
{
	pthread_t thread;
	pthread_create(&thread, 0, lock_held, 0);
	pthread_join(thread, 0);
}

static void *lock_write(void *arg)
{
	struct timespec t = later(CLOCK_REALTIME);
	(void)arg;
	pthread_rwlock_timedwrlock(&lock, &t);
	return 0;
}

static void wait_rwlock(void)
{
	pthread_t thread;
	pthread_create(&thread, 0, lock_write, 0);
	pthread_join(thread, 0);
}

static void wait_sem(void)
{
	struct timespec t = later(CLOCK_REALTIME);
	sem_timedwait(&sem, &t);
}

static void wait_sleep(void)
{
	struct timespec t = later(CLOCK_REALTIME);
	clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, 0);
}

static void wait_timer(void)
{
	struct itimerspec t = {{0, 0}, later(CLOCK_REALTIME)};
	uint64_t n;
	int fd = timerfd_create(CLOCK_REALTIME, 0);
	timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, 0);
	if (read(fd, &n, sizeof n) < 0)
		perror("read");
}

int main(void)
{
	struct {
		const char *name;
		void (*f)(void);
	} all[] = {{"cond", wait_cond}, {"monotonic", wait_monotonic}, {"mutex", wait_mutex}, {"rwlock", wait_rwlock}, {"sem", wait_sem}, {"sleep", wait_sleep}, {"timer", wait_timer}};
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&monotonic, &attr);
	pthread_mutex_lock(&held);
	pthread_rwlock_rdlock(&lock);
	sem_init(&sem, 0, 0);
	int bad = 0;
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
		struct timespec a, b;
		clock_gettime(CLOCK_MONOTONIC, &a);
		all[i].f();
		clock_gettime(CLOCK_MONOTONIC, &b);
		double took = (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9;
		if (took < 0.15 || took > 3) {
			printf("%s took %.2f s\n", all[i].name, took);
			bad = 1;
		}
	}
	if (!bad)
		puts("ok");
	return 0;
}
