/* The load generator of the bench: HTTP/1.1 over keep-alive connections, one epoll loop.
 *
 *   load PORT SECONDS REQUESTS SEED CLASS...
 *
 * A CLASS is METHOD,CONNECTIONS,SIZE,KEYS,PATH (the path last, so it may hold commas). In the path,
 * {n} becomes a number and {x} the same number as 8 hex digits. A GET takes numbers at random
 * below KEYS and expects bodies of SIZE bytes; a PUT counts up from KEYS and sends SIZE bytes that
 * no other PUT of the same or another SEED sends. All classes share the loop, so a mixture of
 * GET and PUT costs one core and not two. The run ends after SECONDS or, when REQUESTS is not 0,
 * after that many requests of every class. It prints one JSON object.
 *
 * Bodies are received with MSG_TRUNC when DISCARD=1 is set in the environment: the kernel counts
 * the bytes and drops them, so that the receiver's copy does not hide the sender's speed. API_KEY
 * goes with every request as a bearer token.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CLASSES_MAX 4
#define ERRORS_MAX 1000
#define HEAD_MAX 16384
#define READ_SIZE (256 * 1024)
#define BODY_SIZE (64ull << 20)             /* larger bodies repeat it */
#define SUB_BITS 6                          /* 64 steps per power of two: 1.6 % exact */
#define BUCKETS ((64 - SUB_BITS) << SUB_BITS)

struct class {
    char method[8];
    char path[1024];
    int is_put;
    int connections;
    uint64_t size, keys, next;
    uint64_t started, requests, bytes, errors;
    uint64_t histogram[BUCKETS];
    uint64_t latency_max;
    char first_error[256];
};

struct connection {
    int fd;
    struct class *class;
    uint64_t began_ns;
    char request[2048];
    size_t request_size, sent;              /* sent counts head and body */
    uint64_t stamp[2];                      /* makes this body unlike all others */
    char head[HEAD_MAX];
    size_t head_size;
    uint64_t body_left;
    int in_body, close_after, wants_out, busy;
};

static struct class classes[CLASSES_MAX];
static int class_count, port, epoll_fd, discard;
static uint64_t requests_max, seed, random_state, deadline_ns;
static char *body, *scratch;
static char authorization[256];              /* a whole header line, or nothing */
static int running;                         /* connections with a request under way */

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t next_random(void) {         /* xorshift64* */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545F4914F6CDD1Dull;
}

static int bucket_of(uint64_t value) {
    if (value < (1u << SUB_BITS)) return (int)value;
    int shift = 63 - __builtin_clzll(value) - SUB_BITS;
    return ((shift + 1) << SUB_BITS) + (int)((value >> shift) & ((1u << SUB_BITS) - 1));
}

static uint64_t bucket_value(int bucket) {
    if (bucket < (1 << SUB_BITS)) return (uint64_t)bucket;
    int shift = (bucket >> SUB_BITS) - 1;
    return ((uint64_t)(1 << SUB_BITS) + (bucket & ((1 << SUB_BITS) - 1))) << shift;
}

static uint64_t quantile(const struct class *c, double part) {
    uint64_t wanted = (uint64_t)((double)c->requests * part), seen = 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += c->histogram[i];
        if (seen > wanted) return bucket_value(i);
    }
    return c->latency_max;
}

static void connect_to(struct connection *c);

static void reconnect(struct connection *c) {
    close(c->fd);
    c->fd = -1;
    connect_to(c);
}

/* Count an error and begin again on a fresh connection; too many end the run. */
static void fail(struct connection *c, const char *why) {
    struct class *k = c->class;
    if (!k->errors++) snprintf(k->first_error, sizeof k->first_error, "%.200s", why);
    if (c->busy) { c->busy = 0; running--; }
    if (k->errors >= ERRORS_MAX) deadline_ns = 0;
    reconnect(c);
}

static void watch(struct connection *c, int operation, int out) {
    struct epoll_event e = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &e)) die("epoll_ctl");
    c->wants_out = out;
}

static void write_request(struct connection *c) {
    struct class *k = c->class;
    size_t total = c->request_size + (k->is_put ? k->size : 0);
    while (c->sent < total) {
        struct iovec parts[3];
        int count = 0;
        size_t stamped = k->size < sizeof c->stamp ? k->size : sizeof c->stamp;
        size_t at = c->sent;
        if (at < c->request_size) parts[count++] = (struct iovec){c->request + at, c->request_size - at};
        at = at > c->request_size ? at - c->request_size : 0;
        if (k->is_put && at < stamped)
            parts[count++] = (struct iovec){(char *)c->stamp + at, stamped - at};
        if (k->is_put) {
            if (at < stamped) at = stamped;
            uint64_t from = at % BODY_SIZE, left = k->size - at, step = BODY_SIZE - from;
            if (left) parts[count++] = (struct iovec){body + from, left < step ? left : step};
        }
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
        ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) {
                if (!c->wants_out) watch(c, EPOLL_CTL_MOD, 1);
                return;
            }
            fail(c, strerror(errno));
            return;
        }
        c->sent += (size_t)n;
    }
    if (c->wants_out) watch(c, EPOLL_CTL_MOD, 0);
}

static size_t expand_path(const struct class *k, uint64_t number, char *out, size_t room) {
    size_t n = 0;
    for (const char *p = k->path; *p && n + 24 < room; p++) {
        if (!strncmp(p, "{n}", 3)) { n += (size_t)sprintf(out + n, "%llu", (unsigned long long)number); p += 2; }
        else if (!strncmp(p, "{x}", 3)) { n += (size_t)sprintf(out + n, "%08llx", (unsigned long long)number); p += 2; }
        else out[n++] = *p;
    }
    out[n] = 0;
    return n;
}

static void next_request(struct connection *c) {
    struct class *k = c->class;
    if ((requests_max && k->started >= requests_max) || now_ns() >= deadline_ns) return;
    k->started++;
    uint64_t number = k->is_put ? k->next++ : next_random() % k->keys;
    char path[1200];
    expand_path(k, number, path, sizeof path);
    c->request_size = (size_t)snprintf(c->request, sizeof c->request, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s",
                                       k->method, path, port, authorization);
    if (k->is_put)
        c->request_size += (size_t)sprintf(c->request + c->request_size,
                                           "Content-Type: application/octet-stream\r\nContent-Length: %llu\r\n",
                                           (unsigned long long)k->size);
    c->request_size += (size_t)sprintf(c->request + c->request_size, "\r\n");
    c->stamp[0] = seed;
    c->stamp[1] = number;
    c->sent = c->head_size = 0;
    c->in_body = c->close_after = 0;
    c->busy = 1;
    running++;
    c->began_ns = now_ns();
    write_request(c);
}

static void connect_to(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    if (now_ns() >= deadline_ns) return;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0) die("socket");
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    watch(c, EPOLL_CTL_ADD, 0);
    next_request(c);
}

static void finish(struct connection *c) {
    struct class *k = c->class;
    uint64_t latency = now_ns() - c->began_ns;
    k->histogram[bucket_of(latency)]++;
    if (latency > k->latency_max) k->latency_max = latency;
    k->requests++;
    k->bytes += k->size;
    c->busy = 0;
    running--;
    int unsent = c->sent < c->request_size + (k->is_put ? k->size : 0);
    if (c->close_after || unsent) reconnect(c);
    else next_request(c);
}

static const char *find_header(const char *head, const char *name) {
    size_t size = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, name, size)) {
            const char *value = line + 2 + size;
            while (*value == ' ') value++;
            return value;
        }
    return NULL;
}

/* Judge the status and the announced length; NULL when they are as they should be. */
static const char *judge(struct connection *c, int status) {
    static char why[256];
    struct class *k = c->class;
    int good = k->is_put ? status >= 200 && status < 300 : status == 200;
    if (!good) {
        snprintf(why, sizeof why, "%s answered %.150s", k->method, c->head);
        for (char *p = why; *p; p++) if (*p < ' ' || *p == '"' || *p == '\\') *p = ' ';
        return why;
    }
    const char *length = find_header(c->head, "content-length:");
    if (!length && status != 204) return "no content-length";
    c->body_left = length ? strtoull(length, NULL, 10) : 0;
    if (!k->is_put && c->body_left != k->size) return "content-length is not the size of the blob";
    const char *kind = find_header(c->head, "connection:");
    c->close_after = kind && !strncasecmp(kind, "close", 5);
    return NULL;
}

/* Take the bytes of a head; true when the answer is complete. */
static int take_head(struct connection *c) {
    ssize_t n = recv(c->fd, c->head + c->head_size, HEAD_MAX - 1 - c->head_size, 0);
    if (n < 0 && errno == EAGAIN) return 0;
    if (!c->busy) { reconnect(c); return 0; }
    if (n <= 0) { fail(c, n < 0 ? strerror(errno) : "the server closed"); return 0; }
    c->head_size += (size_t)n;
    c->head[c->head_size] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) {
        if (c->head_size >= HEAD_MAX - 1) fail(c, "a head without an end");
        return 0;
    }
    size_t extra = c->head_size - (size_t)(end + 4 - c->head);
    end[2] = 0;
    const char *why = judge(c, atoi(c->head + 9));
    if (!why && extra > c->body_left) why = "more bytes than announced";
    if (why) { fail(c, why); return 0; }
    c->body_left -= extra;
    c->in_body = 1;
    return c->body_left == 0;
}

static void on_readable(struct connection *c) {
    if (!c->in_body) {
        if (take_head(c)) finish(c);
        return;
    }
    size_t wanted = discard || c->body_left < READ_SIZE ? c->body_left : READ_SIZE;
    ssize_t n = recv(c->fd, scratch, wanted, discard ? MSG_TRUNC : 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { fail(c, n < 0 ? strerror(errno) : "the server closed inside a body"); return; }
    c->body_left -= (uint64_t)n;
    if (!c->body_left) finish(c);
}

static void parse_class(const char *text) {
    struct class *k = &classes[class_count++];
    unsigned long long size, keys;
    if (sscanf(text, "%7[^,],%d,%llu,%llu,%1023s", k->method, &k->connections, &size, &keys, k->path) != 5) {
        fprintf(stderr, "not a class: %s\n", text);
        exit(2);
    }
    k->is_put = strcmp(k->method, "GET") != 0;
    k->size = size;
    k->keys = k->next = keys;
}

static void fill_body(void) {
    uint64_t most = 16;
    for (int i = 0; i < class_count; i++) if (classes[i].is_put && classes[i].size > most) most = classes[i].size;
    if (most > BODY_SIZE) most = BODY_SIZE;
    body = malloc(most + 8);
    scratch = malloc(READ_SIZE);
    if (!body || !scratch) die("malloc");
    for (uint64_t i = 0; i < most; i += 8) { uint64_t r = next_random(); memcpy(body + i, &r, 8); }
}

static void print_class(const struct class *k) {
    printf("{\"method\": \"%s\", \"requests\": %llu, \"bytes\": %llu, \"errors\": %llu, "
           "\"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, \"first_error\": \"%s\"}",
           k->method, (unsigned long long)k->requests, (unsigned long long)k->bytes,
           (unsigned long long)k->errors, (double)quantile(k, 0.5) / 1e3, (double)quantile(k, 0.99) / 1e3,
           (double)k->latency_max / 1e3, k->first_error);
}

int main(int argc, char **argv) {
    if (argc < 6 || argc > 5 + CLASSES_MAX) {
        fprintf(stderr, "usage: load PORT SECONDS REQUESTS SEED METHOD,CONNECTIONS,SIZE,KEYS,PATH...\n");
        return 2;
    }
    port = atoi(argv[1]);
    requests_max = strtoull(argv[3], NULL, 10);
    seed = strtoull(argv[4], NULL, 10);
    random_state = seed * 0x9E3779B97F4A7C15ull + 1;
    discard = getenv("DISCARD") != NULL;
    const char *key = getenv("API_KEY");
    if (key) snprintf(authorization, sizeof authorization, "Authorization: Bearer %.200s\r\n", key);
    for (int i = 5; i < argc; i++) parse_class(argv[i]);
    fill_body();
    epoll_fd = epoll_create1(0);
    uint64_t start = now_ns();
    uint64_t end = start + (uint64_t)(atof(argv[2]) * 1e9);
    deadline_ns = end;
    for (int i = 0; i < class_count; i++)
        for (int j = 0; j < classes[i].connections; j++) {
            struct connection *c = calloc(1, sizeof *c);
            if (!c) die("calloc");
            c->class = &classes[i];
            connect_to(c);
        }
    struct epoll_event events[256];
    uint64_t grace = end + 20000000000ull;   /* answers that are late still count, up to 20 s */
    while (running > 0 && now_ns() < grace) {
        int n = epoll_wait(epoll_fd, events, 256, 1000);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->fd < 0) continue;
            if (events[i].events & EPOLLOUT) write_request(c);
            if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c);
        }
    }
    double seconds = (double)(now_ns() - start) / 1e9;
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    double cpu = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                 (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    printf("{\"seconds\": %.4f, \"cpu_s\": %.3f, \"unanswered\": %d, \"classes\": [", seconds, cpu, running);
    for (int i = 0; i < class_count; i++) {
        if (i) printf(", ");
        print_class(&classes[i]);
    }
    printf("]}\n");
    return 0;
}
