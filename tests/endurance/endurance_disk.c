/* A disk that writes down what it is asked to do, that can be full or broken, and slow: loaded into a process
 * before its libraries (LD_PRELOAD), it stands between them and the system's calls for files of one folder.
 *
 * ENDURANCE_FOLDER   files below it are looked at
 * ENDURANCE_TRACE    where to write down each operation, if anywhere; then nothing is really synced
 * ENDURANCE_CONTROL  a file of struct control: what fails or waits now, and on which files
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, REMOVE };
enum { FILES_MAX = 65536 };

struct control {
    volatile int32_t write_error, sync_error, delay_us, failed, delayed;
    char part[64]; /* of the path; empty: all files */
};

struct __attribute__((packed)) entry {
    uint8_t operation;
    uint64_t at, length;
    uint16_t name, other;
};

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char *names[FILES_MAX];
static const char *folder;
static size_t folder_length;
static int trace = -1;
static struct control *control;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("ENDURANCE_TRACE"), *said = getenv("ENDURANCE_CONTROL");
    folder = getenv("ENDURANCE_FOLDER");
    folder_length = folder ? strlen(folder) : 0;
    if (path)
        trace = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int fd = said ? (int)syscall(SYS_openat, AT_FDCWD, said, O_RDWR | O_CLOEXEC, 0) : -1;
    if (fd >= 0) {
        void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        control = map == MAP_FAILED ? NULL : map;
    }
}

static const char *ours(const char *path) {
    if (!folder_length || !path || strncmp(path, folder, folder_length))
        return NULL;
    return path[folder_length] == '/' ? path + folder_length + 1 : path[folder_length] ? NULL : ".";
}

static const char *name_of(int fd) { return fd >= 0 && fd < FILES_MAX ? names[fd] : NULL; }

static void note(int operation, const char *name, const char *other, uint64_t at, const void *data, size_t length) {
    if (trace < 0)
        return;
    struct entry entry = {(uint8_t)operation, at, length, (uint16_t)strlen(name), (uint16_t)(other ? strlen(other) : 0)};
    struct iovec parts[] = {{&entry, sizeof entry}, {(void *)name, entry.name}, {(void *)other, entry.other},
                            {(void *)data, length}};
    if (syscall(SYS_writev, trace, parts, 4) != (long)(sizeof entry + entry.name + entry.other + length))
        abort();
}

/* Whether it fails, with errno set; waits first where that was asked for. */
static int refused(const char *name, int sync) {
    if (!control || (control->part[0] && !strstr(name, control->part)))
        return 0;
    if (control->delay_us) {
        __sync_fetch_and_add(&control->delayed, 1);
        usleep((useconds_t)control->delay_us);
    }
    int error = sync ? control->sync_error : control->write_error;
    if (!error)
        return 0;
    __sync_fetch_and_add(&control->failed, 1);
    errno = error;
    return 1;
}

static void opened(int fd, const char *name, int flags, int there) {
    if (fd < 0 || fd >= FILES_MAX)
        return;
    free(names[fd]);
    names[fd] = strdup(name);
    if (!there)
        note(CREATE, name, NULL, 0, NULL, 0);
    else if (flags & O_TRUNC)
        note(TRUNCATE, name, NULL, 0, NULL, 0);
}

static int open_it(int at, const char *path, int flags, mode_t mode) {
    const char *name = at == AT_FDCWD || path[0] == '/' ? ours(path) : NULL;
    if (!name)
        return (int)syscall(SYS_openat, at, path, flags, mode);
    struct stat found;
    pthread_mutex_lock(&turn);
    int there = !syscall(SYS_newfstatat, at, path, &found, 0);
    int fd = !there && (flags & O_CREAT) && refused(name, 0) ? -1 : (int)syscall(SYS_openat, at, path, flags, mode);
    int error = errno;
    opened(fd, name, flags, there);
    pthread_mutex_unlock(&turn);
    errno = error;
    return fd;
}

#define MODE(flags) mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }
int open(const char *path, int flags, ...) { MODE(flags) return open_it(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_it(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return open_it(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return open_it(at, path, flags, mode); }

int close(int fd) {
    if (name_of(fd)) {
        pthread_mutex_lock(&turn);
        free(names[fd]);
        names[fd] = NULL;
        pthread_mutex_unlock(&turn);
    }
    return (int)syscall(SYS_close, fd);
}

static ssize_t write_at(int fd, const char *name, const void *data, size_t length, off_t at) {
    if (refused(name, 0))
        return -1;
    pthread_mutex_lock(&turn);
    ssize_t done = syscall(SYS_pwrite64, fd, data, length, at);
    int error = errno;
    if (done > 0)
        note(WRITE, name, NULL, (uint64_t)at, data, (size_t)done);
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    const char *name = name_of(fd);
    return name ? write_at(fd, name, data, length, at) : syscall(SYS_pwrite64, fd, data, length, at);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off_t at) { return pwrite(fd, data, length, at); }

ssize_t write(int fd, const void *data, size_t length) {
    const char *name = name_of(fd);
    if (!name)
        return syscall(SYS_write, fd, data, length);
    int append = (int)syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND;
    off_t at = syscall(SYS_lseek, fd, 0, append ? SEEK_END : SEEK_CUR);
    ssize_t done = write_at(fd, name, data, length, at);
    if (done > 0)
        syscall(SYS_lseek, fd, at + done, SEEK_SET);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!name_of(fd))
        return syscall(SYS_writev, fd, parts, count);
    ssize_t done = 0;
    for (int i = 0; i < count; i++) {
        ssize_t one = write(fd, parts[i].iov_base, parts[i].iov_len);
        if (one < 0)
            return done ? done : -1;
        done += one;
        if ((size_t)one < parts[i].iov_len)
            break;
    }
    return done;
}

int ftruncate(int fd, off_t length) {
    const char *name = name_of(fd);
    if (!name)
        return (int)syscall(SYS_ftruncate, fd, length);
    if (refused(name, 0))
        return -1;
    pthread_mutex_lock(&turn);
    int done = (int)syscall(SYS_ftruncate, fd, length), error = errno;
    if (!done)
        note(TRUNCATE, name, NULL, (uint64_t)length, NULL, 0);
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}
int ftruncate64(int fd, off_t length) { return ftruncate(fd, length); }

static int sync_it(int fd, long call) {
    const char *name = name_of(fd);
    if (!name)
        return (int)syscall(call, fd);
    if (refused(name, 1))
        return -1;
    if (trace < 0)
        return (int)syscall(call, fd);
    pthread_mutex_lock(&turn);
    note(SYNC, name, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    return 0;
}
int fsync(int fd) { return sync_it(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_it(fd, SYS_fdatasync); }

int rename(const char *from, const char *to) {
    const char *name = ours(from), *other = ours(to);
    if (!name || !other)
        return (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
    pthread_mutex_lock(&turn);
    int done = (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to), error = errno;
    if (!done)
        note(RENAME, name, other, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}

int unlink(const char *path) {
    const char *name = ours(path);
    if (!name)
        return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_lock(&turn);
    int done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0), error = errno;
    if (!done)
        note(REMOVE, name, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}
int remove(const char *path) { return unlink(path); }
