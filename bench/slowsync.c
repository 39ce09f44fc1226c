/* Make every fsync and fdatasync of a process wait SLOW_SYNC_US microseconds more (LD_PRELOAD). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static void wait_more(void) {
    const char *wait_us = getenv("SLOW_SYNC_US");
    if (wait_us) usleep((useconds_t)atoi(wait_us));
}

int fsync(int descriptor) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_more();
    return real(descriptor);
}

int fdatasync(int descriptor) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_more();
    return real(descriptor);
}
