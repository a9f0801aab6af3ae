/*
 * Opens many WebSocket connections, follows one experiment on each, and counts the event frames that come.
 *
 *   fanout_client PORT CONNECTIONS STALLED PATH SUBPROTOCOL COMMAND
 *
 * STALLED of the connections stop reading after their subscription. Prints "ready" when all are subscribed, then waits
 * for "count EVENTS" on stdin, reads until each connection that reads has so many event frames, and prints
 * "done SECONDS FRAMES BYTES", the seconds counted from the first byte. "quit" ends it. One thread, epoll, no masking
 * to undo: a server's frames are not masked (RFC 6455, 5.1).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 18, HEADER = 10 };

struct viewer {
    int fd;
    int have;                      /* bytes of the header of the frame that is being read */
    unsigned char header[HEADER];
    uint64_t left;                 /* bytes of its payload that are still to come */
    uint64_t events;
};

static unsigned char buffer[BUFFER];
static struct viewer *viewers;
static int count, stalled;
static uint64_t bytes_read;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void send_all(int fd, const void *data, size_t size) {
    if (write(fd, data, size) != (ssize_t)size) die("write");
}

/* A masked text frame with the mask 0, which leaves the payload as it is. */
static void send_text(int fd, const char *text) {
    unsigned char frame[512] = {0x81};
    size_t size = strlen(text), at = 2;
    if (size > 400) exit(2);
    if (size < 126) {
        frame[1] = 0x80 | size;
    } else {
        frame[1] = 0x80 | 126;
        frame[2] = size >> 8;
        frame[3] = size & 0xff;
        at = 4;
    }
    memset(frame + at, 0, 4);
    memcpy(frame + at + 4, text, size);
    send_all(fd, frame, at + 4 + size);
}

/* Reads byte by byte until `needle` was read: the handshake, and the answer to the subscription. */
static void read_until(int fd, const char *needle) {
    size_t matched = 0, size = strlen(needle);
    char byte;
    while (matched < size) {
        if (read(fd, &byte, 1) != 1) die("read");
        matched = byte == needle[matched] ? matched + 1 : byte == needle[0];
    }
}

static int open_one(int port, int slow, const char *path, const char *subprotocol, const char *command) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    char request[1024];
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1, little = 4096;
    if (fd < 0) die("socket");
    /* What the kernels keep for a viewer that stalls is not the gateway's to answer for. */
    if (slow) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    snprintf(request, sizeof request,
             "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
             path, port, *subprotocol ? "Sec-WebSocket-Protocol: " : "", subprotocol, *subprotocol ? "\r\n" : "");
    send_all(fd, request, strlen(request));
    read_until(fd, "\r\n\r\n");
    if (*command) {
        send_text(fd, command);
        read_until(fd, "subscribed");
        read_until(fd, "}");
    }
    return fd;
}

static void walk(struct viewer *v, const unsigned char *at, size_t size) {
    while (size) {
        if (v->left) {
            size_t step = size < v->left ? size : v->left;
            v->left -= step, at += step, size -= step;
            continue;
        }
        v->header[v->have++] = *at++, size--;
        int code = v->have > 1 ? v->header[1] & 0x7f : 0;
        int need = code == 126 ? 4 : code == 127 ? 10 : 2;
        if (v->have < need) continue;
        if (code == 126) v->left = v->header[2] << 8 | v->header[3];
        else if (code == 127) for (int i = 2; i < 10; i++) v->left = v->left << 8 | v->header[i];
        else v->left = code;
        /* Frames under 128 bytes are pings and other small talk. */
        if ((v->header[0] & 0x0f) == 1 && v->left >= 128) v->events++;
        v->have = 0;
    }
}

static void count_events(int poll, uint64_t wanted) {
    struct epoll_event ready[256];
    double begun = 0;
    int open = count - stalled;
    uint64_t frames = 0, before = bytes_read;
    for (int i = 0; i < count; i++) viewers[i].events = 0;
    while (open) {
        int n = epoll_wait(poll, ready, 256, 20000);
        if (n <= 0) { printf("stuck\n"); fflush(stdout); exit(3); }
        if (!begun) begun = now();
        for (int i = 0; i < n; i++) {
            struct viewer *v = ready[i].data.ptr;
            ssize_t size = read(v->fd, buffer, BUFFER);
            if (size < 0 && (errno == EAGAIN || errno == EINTR)) continue;
            if (size <= 0) { printf("lost\n"); fflush(stdout); exit(4); }
            bytes_read += size;
            uint64_t had = v->events;
            walk(v, buffer, size);
            if (had < wanted && v->events >= wanted) open--;
        }
    }
    double seconds = now() - begun;
    for (int i = stalled; i < count; i++) frames += viewers[i].events;
    printf("done %.6f %llu %llu\n", seconds, (unsigned long long)frames, (unsigned long long)(bytes_read - before));
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    struct rlimit limit;
    char line[64];
    count = atoi(argv[2]), stalled = atoi(argv[3]);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    viewers = calloc(count, sizeof *viewers);
    int poll = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &viewers[i]};
        viewers[i].fd = open_one(atoi(argv[1]), i < stalled, argv[4], argv[5], argv[6]);
        fcntl(viewers[i].fd, F_SETFL, O_NONBLOCK);
        if (i >= stalled && epoll_ctl(poll, EPOLL_CTL_ADD, viewers[i].fd, &event)) die("epoll_ctl");
    }
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        unsigned long long wanted;
        if (sscanf(line, "count %llu", &wanted) == 1) count_events(poll, wanted);
        else break;
    }
    return 0;
}
