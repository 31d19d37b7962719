// Loaded into a gateway by LD_PRELOAD: writes a byte to $SHIM_SYNCS for each fsync and fdatasync of a file in the folder
// $SHIM_STORE, lets writing there fail as on a full disk while the file $SHIM_FULL exists, and takes ten seconds to find
// no name that ends in ".example".
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static int of_store(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    const char *folder = getenv("SHIM_STORE");
    return folder != NULL && strncmp(path, folder, strlen(folder)) == 0;
}

static int is_full(int fd) {
    const char *flag = getenv("SHIM_FULL");
    return flag != NULL && access(flag, F_OK) == 0 && of_store(fd);
}

static void count(int fd) {
    const char *path = getenv("SHIM_SYNCS");
    if (path == NULL || !of_store(fd)) return;
    int counter = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (counter < 0) return;
    ssize_t (*write_it)(int, const void *, size_t) = real("write");
    (void)!write_it(counter, "s", 1);
    close(counter);
}

int fsync(int fd) {
    count(fd);
    int (*sync_it)(int) = real("fsync");
    return sync_it(fd);
}

int fdatasync(int fd) {
    count(fd);
    int (*sync_it)(int) = real("fdatasync");
    return sync_it(fd);
}

ssize_t write(int fd, const void *from, size_t count) {
    if (is_full(fd)) return errno = ENOSPC, -1;
    ssize_t (*write_it)(int, const void *, size_t) = real("write");
    return write_it(fd, from, count);
}

ssize_t pwrite(int fd, const void *from, size_t count, off_t at) {
    if (is_full(fd)) return errno = ENOSPC, -1;
    ssize_t (*write_it)(int, const void *, size_t, off_t) = real("pwrite");
    return write_it(fd, from, count, at);
}

ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) {
    if (is_full(fd)) return errno = ENOSPC, -1;
    ssize_t (*write_it)(int, const void *, size_t, off64_t) = real("pwrite64");
    return write_it(fd, from, count, at);
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    const char *end = name == NULL ? NULL : strstr(name, ".example");
    if (end != NULL && end[8] == 0) return sleep(10), EAI_AGAIN;
    int (*look_up)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = real("getaddrinfo");
    return look_up(name, service, hints, found);
}
