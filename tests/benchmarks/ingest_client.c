/*
 * Closed-loop HTTP load: N connections, each sends the same request again as soon as its answer is there.
 * Prints: answers that were 2xx, other answers, seconds, and the latencies' p50 and p99 in microseconds.
 *
 *     ingest_client <port> <connections> <seconds> <file with the whole request>
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1 << 20, BUCKETS = 2000000 };

struct connection {
    int fd;
    size_t sent, got;
    double began;
    char *answer;
};

static char *request;
static size_t length;
static unsigned latencies[BUCKETS];
static long good, bad;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void push(struct connection *c) {
    while (c->sent < length) {
        ssize_t n = send(c->fd, request + c->sent, length - c->sent, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (n < 0) die("send");
        c->sent += n;
    }
}

static void again(struct connection *c) {
    c->sent = c->got = 0;
    c->began = now();
    push(c);
}

/* Whether the whole answer is there. */
static int complete(struct connection *c) {
    c->answer[c->got] = 0;
    char *end = strstr(c->answer, "\r\n\r\n");
    char *size = end ? strcasestr(c->answer, "content-length:") : NULL;
    return size && c->got >= (size_t)(end + 4 - c->answer) + strtoul(size + 15, NULL, 10);
}

static void pull(struct connection *c) {
    for (;;) {
        ssize_t n = recv(c->fd, c->answer + c->got, ROOM - c->got - 1, 0);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (n <= 0) die("recv");
        c->got += n;
        if (!complete(c)) continue;
        long took = (now() - c->began) * 1e6;
        latencies[took < BUCKETS ? took : BUCKETS - 1]++;
        if (c->answer[9] == '2') good++;
        else bad++;
        again(c);
        return;
    }
}

static long quantile(double q) {
    long rank = (good + bad) * q, seen = 0;
    for (long i = 0; i < BUCKETS; i++)
        if ((seen += latencies[i]) > rank) return i;
    return BUCKETS;
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    int count = atoi(argv[2]), one = 1;
    double seconds = atof(argv[3]);
    FILE *file = fopen(argv[4], "rb");
    if (!file) die(argv[4]);
    request = malloc(ROOM);
    length = fread(request, 1, ROOM, file);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int poll = epoll_create1(0);
    struct connection *all = calloc(count, sizeof *all);
    for (int i = 0; i < count; i++) {
        struct connection *c = &all[i];
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        c->answer = malloc(ROOM);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
        epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event);
        again(c);
    }
    double begin = now(), end = begin + seconds;
    struct epoll_event events[512];
    while (now() < end) {
        int n = epoll_wait(poll, events, 512, 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) push(c);
            if (events[i].events & EPOLLIN) pull(c);
        }
    }
    printf("%ld %ld %.3f %ld %ld\n", good, bad, now() - begin, quantile(0.5), quantile(0.99));
    return 0;
}
