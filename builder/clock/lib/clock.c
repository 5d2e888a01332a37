/* A library to preload that moves the clock of a process. It needs no C library, so that one file serves
 * glibc and musl: cc -O2 -shared -fPIC -nostdlib -o clock.so clock.c
 *
 * It moves what the process reads of the time of day, and moves back the points in time that it hands to the
 * kernel to wait for. Other clocks, and the times of files, stay as they are. */

typedef long long ll;

struct timespec {
	long sec, nsec;
};

struct itimerspec {
	struct timespec interval, value;
};

/* kedge replaces the number that follows the mark, in seconds. */
static const volatile struct {
	char mark[16];
	ll seconds;
} offset = {"kedge clock +-s=", 0};

#if defined(__x86_64__)
enum { clock_gettime_nr = 228, clock_nanosleep_nr = 230, timerfd_settime_nr = 286 };
static long sys(long n, long a, long b, long c, long d)
{
	long r;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return r;
}
#elif defined(__aarch64__)
enum { clock_gettime_nr = 113, clock_nanosleep_nr = 115, timerfd_settime_nr = 86 };
static long sys(long n, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c, x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}
#else
#error "another architecture"
#endif

enum { realtime = 0, realtime_coarse = 5, realtime_alarm = 8, tai = 11, absolute = 1, timed_out = 110 };

extern int *__errno_location(void) __attribute__((weak));
extern void *dlsym(void *, const char *) __attribute__((weak));

static int result(long r)
{
	if (r >= 0)
		return r;
	if (__errno_location)
		*__errno_location() = -r;
	return -1;
}

static long now(int clock, struct timespec *t)
{
	long r = sys(clock_gettime_nr, clock, (long)t, 0, 0);
	if (r == 0 && (clock == realtime || clock == realtime_coarse || clock == realtime_alarm || clock == tai))
		t->sec += offset.seconds;
	return r;
}

int clock_gettime(int clock, struct timespec *t)
{
	return result(now(clock, t));
}

int gettimeofday(struct timespec *t, int *zone)
{
	struct timespec n;
	if (t) {
		now(realtime, &n);
		t->sec = n.sec;
		t->nsec = n.nsec / 1000; /* a struct timeval */
	}
	if (zone)
		zone[0] = zone[1] = 0;
	return 0;
}

long time(long *t)
{
	struct timespec n;
	now(realtime_coarse, &n);
	if (t)
		*t = n.sec;
	return n.sec;
}

int timespec_get(struct timespec *t, int base)
{
	if (base != 1)
		return 0;
	now(realtime, t);
	return base;
}

/* back returns a point in time as the kernel knows it. One that is early in the clock's life is of a clock
 * that counts from the start of the machine. */
static struct timespec back(const struct timespec *t)
{
	struct timespec real = *t;
	if (t->sec > 1000000000)
		real.sec -= offset.seconds;
	return real;
}

int clock_nanosleep(int clock, int flags, const struct timespec *t, struct timespec *left)
{
	struct timespec real = *t;
	if ((flags & absolute) && (clock == realtime || clock == tai))
		real = back(t);
	return -sys(clock_nanosleep_nr, clock, flags, (long)&real, (long)left);
}

static long settime(long nr, long timer, int flags, const struct itimerspec *value, struct itimerspec *old)
{
	if (!(flags & absolute) || !value)
		return sys(nr, timer, flags, (long)value, (long)old);
	struct itimerspec real = *value;
	real.value = back(&value->value);
	return sys(nr, timer, flags, (long)&real, (long)old);
}

int timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old)
{
	return result(settime(timerfd_settime_nr, fd, flags, value, old));
}

/* The C library's own functions wait. Since glibc 2.30 they have a form that takes the clock; otherwise, as in
 * musl, dlsym finds the function that this one replaces. */
static int real_clock(const struct timespec *t)
{
	return t->sec > 1000000000 ? realtime : 1; /* CLOCK_MONOTONIC */
}

static void *next(const char *name)
{
	return dlsym ? dlsym((void *)-1, name) : 0;
}

extern int pthread_cond_clockwait(void *, void *, int, const struct timespec *) __attribute__((weak));
extern int pthread_mutex_clocklock(void *, int, const struct timespec *) __attribute__((weak));
extern int pthread_rwlock_clockrdlock(void *, int, const struct timespec *) __attribute__((weak));
extern int pthread_rwlock_clockwrlock(void *, int, const struct timespec *) __attribute__((weak));
extern int sem_clockwait(void *, int, const struct timespec *) __attribute__((weak));

int pthread_cond_timedwait(void *cond, void *mutex, const struct timespec *t)
{
	struct timespec real = back(t);
	if (pthread_cond_clockwait)
		return pthread_cond_clockwait(cond, mutex, real_clock(t), &real);
	int (*f)(void *, void *, const struct timespec *) = next("pthread_cond_timedwait");
	return f ? f(cond, mutex, &real) : timed_out;
}

#define LOCK(name, with_clock) \
	int name(void *lock, const struct timespec *t) \
	{ \
		struct timespec real = back(t); \
		if (with_clock) \
			return with_clock(lock, real_clock(t), &real); \
		int (*f)(void *, const struct timespec *) = next(#name); \
		return f ? f(lock, &real) : timed_out; \
	}

LOCK(pthread_mutex_timedlock, pthread_mutex_clocklock)
LOCK(pthread_rwlock_timedrdlock, pthread_rwlock_clockrdlock)
LOCK(pthread_rwlock_timedwrlock, pthread_rwlock_clockwrlock)

int sem_timedwait(void *sem, const struct timespec *t)
{
	struct timespec real = back(t);
	if (sem_clockwait)
		return sem_clockwait(sem, real_clock(t), &real);
	int (*f)(void *, const struct timespec *) = next("sem_timedwait");
	return f ? f(sem, &real) : result(-timed_out);
}
