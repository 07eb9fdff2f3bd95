// Between a daemon and the kernel: fsync that fails, and a wall clock that is wrong, as a mapped file says.
// Preloaded; the file is named by ORCH_SHIM. The monotonic clock is left alone, as a jump of the real one leaves it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct orders {
    int64_t clock_offset_s;
    int64_t sync_fails;
};

static const volatile struct orders none;
static const volatile struct orders *orders = &none;

__attribute__((constructor)) static void map_orders(void) {
    const char *path = getenv("ORCH_SHIM");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(0, sizeof(struct orders), PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) orders = mapped;
    close(file);
}

static int refused(void) {
    if (orders->sync_fails) errno = EIO;
    return orders->sync_fails != 0;
}

int fsync(int file) { return refused() ? -1 : (int)syscall(SYS_fsync, file); }

int fdatasync(int file) { return refused() ? -1 : (int)syscall(SYS_fdatasync, file); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = (int)syscall(SYS_clock_gettime, clock, now);
    if (done == 0 && clock == CLOCK_REALTIME) now->tv_sec += orders->clock_offset_s;
    return done;
}
