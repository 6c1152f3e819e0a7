/* Makes the disk fail under an unchanged program: preloaded before the C library.
 *
 * Files in $FULMAR_FAULT_DIRECTORY switch faults on, for the hub's database and its log only:
 *   sync-once    the next synchronisation fails with EIO, and removes the file
 *   sync-always  every synchronisation fails with EIO
 *   full         every write fails with ENOSPC
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int is_database(int fd) {
    char link[64], target[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length <= 0) return 0;
    target[length] = 0;
    return strstr(target, "hub.db") != NULL;
}

static int is_on(const char *fault, int used_up) {
    const char *directory = getenv("FULMAR_FAULT_DIRECTORY");
    char path[4096];
    if (directory == NULL) return 0;
    snprintf(path, sizeof path, "%s/%s", directory, fault);
    return used_up ? unlink(path) == 0 : access(path, F_OK) == 0;
}

static int sync_fails(int fd) {
    return is_database(fd) && (is_on("sync-always", 0) || is_on("sync-once", 1));
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int fd) {
    if (sync_fails(fd)) { errno = EIO; return -1; }
    return REAL(fsync)(fd);
}

int fdatasync(int fd) {
    if (sync_fails(fd)) { errno = EIO; return -1; }
    return REAL(fdatasync)(fd);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    if (is_on("full", 0) && is_database(fd)) { errno = ENOSPC; return -1; }
    return REAL(write)(fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    if (is_on("full", 0) && is_database(fd)) { errno = ENOSPC; return -1; }
    return REAL(pwrite)(fd, bytes, count, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    if (is_on("full", 0) && is_database(fd)) { errno = ENOSPC; return -1; }
    return REAL(pwrite64)(fd, bytes, count, offset);
}
