/* Preloaded into a process that writes a database: keeps a journal of all changes to files whose names hold ".duckdb",
 * or stops the process, or fills the disk, in the middle of one of them, or makes the disk read-only.
 *
 *   WRITES_JOURNAL=FILE    append each change, with its data
 *   WRITES_STOP=N:BYTES    write only BYTES of the N-th change (a write), then die as by SIGKILL
 *   WRITES_FULL=N:COUNT    from the N-th write on, COUNT writes fail with ENOSPC
 *   WRITES_READ_ONLY=FILE  while this file exists, each change fails with EROFS
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define NEXT(result, name, ...) \
    static result (*next)(__VA_ARGS__); \
    if (!next) next = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

struct change { char kind; char unused[7]; int64_t offset, data, path, other; };

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static long *writes; /* shared with the processes that are forked from this one */

__attribute__((constructor)) static void share_count(void) {
    writes = mmap(0, sizeof *writes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* Counts the writes from here on; returns how many there were so far. */
long count_writes_anew(void) { return __atomic_exchange_n(writes, 0, __ATOMIC_SEQ_CST); }

static int is_ours(const char *path) { return path && strstr(path, ".duckdb") && !strstr(path, ".lock"); }

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 4000);
    path[length < 0 ? 0 : length] = 0;
    return is_ours(path);
}

static ssize_t real_write(int fd, const void *data, size_t size) {
    NEXT(ssize_t, "write", int, const void *, size_t);
    return next(fd, data, size);
}

static void note(char kind, const char *path, const char *other, int64_t offset, const void *data, int64_t size) {
    static int journal = -2;
    NEXT(int, "open64", const char *, int, ...);
    if (journal == -2) {
        const char *name = getenv("WRITES_JOURNAL");
        journal = name ? next(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    }
    if (journal < 0) return;
    struct change change = {kind, {0}, offset, size, (int64_t)strlen(path), other ? (int64_t)strlen(other) : 0};
    pthread_mutex_lock(&guard);
    real_write(journal, &change, sizeof change);
    real_write(journal, path, change.path);
    if (other) real_write(journal, other, change.other);
    if (data) real_write(journal, data, size);
    pthread_mutex_unlock(&guard);
}

static int is_read_only(void) {
    const char *sign = getenv("WRITES_READ_ONLY");
    if (!sign || access(sign, F_OK)) return 0;
    errno = EROFS;
    return 1;
}

/* Returns how much of a write is to be done: all, or what comes before the end; -1 where the disk takes none of it. */
static int64_t allowed(size_t size, int *dies) {
    if (is_read_only()) return -1;
    const char *stop = getenv("WRITES_STOP"), *full = getenv("WRITES_FULL");
    if (!stop && !full) return size;
    long n = __atomic_fetch_add(writes, 1, __ATOMIC_SEQ_CST);
    long first = 0, amount = 0;
    sscanf(stop ? stop : full, "%ld:%ld", &first, &amount);
    if (full && n >= first && n < first + amount) {
        errno = ENOSPC;
        return -1;
    }
    if (full) return size;
    *dies = n == first;
    return *dies && amount < (long)size ? amount : (int64_t)size;
}

#define PWRITE(name) \
    ssize_t name(int fd, const void *data, size_t size, off_t offset) { \
        NEXT(ssize_t, #name, int, const void *, size_t, off_t); \
        char path[4001]; \
        if (!path_of(fd, path)) return next(fd, data, size, offset); \
        int dies = 0; \
        int64_t part = allowed(size, &dies); \
        if (part < 0) return -1; \
        note('W', path, 0, offset, data, size); \
        ssize_t done = next(fd, data, part, offset); \
        if (dies) kill(getpid(), SIGKILL); \
        return done; \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t write(int fd, const void *data, size_t size) {
    char path[4001];
    if (fd <= 2 || !path_of(fd, path)) return real_write(fd, data, size);
    int dies = 0;
    int64_t part = allowed(size, &dies);
    if (part < 0) return -1;
    note('W', path, 0, lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR), data, size);
    ssize_t done = real_write(fd, data, part);
    if (dies) kill(getpid(), SIGKILL);
    return done;
}

#define SENDFILE(name) \
    ssize_t name(int out, int in, off_t *offset, size_t size) { \
        NEXT(ssize_t, #name, int, int, off_t *, size_t); \
        char path[4001]; \
        if (!path_of(out, path)) return next(out, in, offset, size); \
        int dies = 0; \
        char *data = malloc(size < 1 << 20 ? size : 1 << 20); \
        ssize_t read = pread(in, data, size < 1 << 20 ? size : 1 << 20, offset ? *offset : lseek(in, 0, SEEK_CUR)); \
        int64_t part = read > 0 ? allowed(read, &dies) : read; \
        if (part > 0) note('W', path, 0, lseek(out, 0, SEEK_CUR), data, read); \
        free(data); \
        if (part <= 0 && !dies) return part; \
        ssize_t done = part ? next(out, in, offset, part) : 0; \
        if (dies) kill(getpid(), SIGKILL); \
        return done; \
    }
SENDFILE(sendfile)
SENDFILE(sendfile64)

#define TRUNCATE(name) \
    int name(int fd, off_t size) { \
        NEXT(int, #name, int, off_t); \
        char path[4001]; \
        int is_noted = path_of(fd, path); \
        if (is_noted && is_read_only()) return -1; \
        if (is_noted) note('T', path, 0, size, 0, 0); \
        return next(fd, size); \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define SYNC(name) \
    int name(int fd) { \
        NEXT(int, #name, int); \
        char path[4001]; \
        if (path_of(fd, path)) note('S', path, 0, 0, 0, 0); \
        return next(fd); \
    }
SYNC(fsync)
SYNC(fdatasync)

#define REMOVE(name) \
    int name(const char *path) { \
        NEXT(int, #name, const char *); \
        if (is_ours(path) && is_read_only()) return -1; \
        if (is_ours(path)) note('U', path, 0, 0, 0, 0); \
        return next(path); \
    }
REMOVE(unlink)
REMOVE(remove)

int rename(const char *path, const char *other) {
    NEXT(int, "rename", const char *, const char *);
    if (is_ours(path) && is_read_only()) return -1;
    if (is_ours(path)) note('R', path, other, 0, 0, 0);
    return next(path, other);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        NEXT(int, #name, const char *, int, ...); \
        mode_t mode = 0; \
        if (flags & O_CREAT) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); } \
        if (is_ours(path) && flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR) && is_read_only()) return -1; \
        if (is_ours(path) && flags & (O_CREAT | O_TRUNC)) note(flags & O_TRUNC ? 'O' : 'C', path, 0, 0, 0, 0); \
        return next(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
