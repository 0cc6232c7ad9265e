/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The talk with eft-rs: one JSON object per line, over /run/eft/NAME/rs.
 */
#include "cli.h"

#include "libchan/region.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_SECONDS = 10, TRIES = 3 };

int client_connect(const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = ANSWER_SECONDS};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    snprintf(a.sun_path, sizeof a.sun_path, "/run/eft/%.64s/rs", name);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

/* One line, however long. NULL at the end of the other side, or when it takes too long. */
static char *read_line(int fd)
{
    size_t size = 65536, len = 0;
    char *line = malloc(size);

    while (line != NULL) {
        if (len == size - 1) {
            char *more = realloc(line, size *= 2);
            if (more == NULL)
                break;
            line = more;
        }
        ssize_t n = recv(fd, line + len, size - 1 - len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        char *end = memchr(line + len, '\n', (size_t)n);
        len += (size_t)n;
        if (end != NULL) {
            *end = '\0';
            return line;
        }
    }
    free(line);
    return NULL;
}

/* One line there, one line back; NULL: no answer. Gives `request` away. */
static struct json_object *exchange(int fd, struct json_object *request)
{
    const char *text = json_object_to_json_string_ext(request, JSON_C_TO_STRING_PLAIN);
    struct json_object *answer = NULL;

    int rc = dprintf(fd, "%s\n", text);
    json_object_put(request);
    char *line = rc > 0 ? read_line(fd) : NULL;
    if (line != NULL)
        answer = json_tokener_parse(line);
    free(line);
    return answer;
}

static struct json_object *judge(const char *name, struct json_object *answer)
{
    struct json_object *ok = NULL;

    if (answer == NULL) {
        complain("stack %s: eft-rs does not answer", name);
        return NULL;
    }
    if (!json_object_object_get_ex(answer, "ok", &ok) || !json_object_get_boolean(ok)) {
        complain("stack %s: %s", name, json_text(answer, "error"));
        json_object_put(answer);
        return NULL;
    }
    return answer;
}

struct json_object *client_ask(int fd, const char *name, struct json_object *request)
{
    return judge(name, exchange(fd, request));
}

static struct json_object *request_of(const char *op)
{
    struct json_object *request = json_object_new_object();

    json_object_object_add(request, "op", json_object_new_string(op));
    return request;
}

struct json_object *client_try(const char *name, const char *op)
{
    int fd = client_connect(name);

    if (fd < 0)
        return NULL;
    struct json_object *answer = exchange(fd, request_of(op));
    close(fd);
    return answer;
}

struct json_object *client_query(int fd, const char *op)
{
    return exchange(fd, request_of(op));
}

struct json_object *client_once(const char *name, const char *op)
{
    struct json_object *answer = NULL;

    /* An eft-rs that dies does not answer; the next one takes over its socket, and does. */
    for (unsigned n = 0; n < TRIES && answer == NULL; n++) {
        int fd = client_connect(name);
        if (fd < 0) {
            if (fd == -EACCES || fd == -EPERM)
                complain("stack %s: %s; run this as root", name, strerror(-fd));
            else
                complain("stack %s is not up (/run/eft/%s/rs: %s)", name, name, strerror(-fd));
            return NULL;
        }
        answer = client_query(fd, op);
        close(fd);
    }
    return judge(name, answer);
}

struct json_object *client_server(struct json_object *status, const char *name)
{
    struct json_object *list = json_member(status, "servers");
    server_id id, other;

    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        struct json_object *s = json_object_array_get_idx(list, i);
        struct json_object *parts = json_member(s, "components");
        if (strcmp(json_text(s, "name"), name) == 0)
            return s;
        if (server_id_parse(name, &id) < 0)
            continue;
        for (size_t k = 0; k < json_object_array_length(parts); k++)
            if (server_id_parse(json_object_get_string(json_object_array_get_idx(parts, k)),
                                &other) == 0 &&
                other == id)
                return s;
    }
    return NULL;
}

struct json_object *json_member(struct json_object *o, const char *key)
{
    struct json_object *value = NULL;

    json_object_object_get_ex(o, key, &value);
    return value;
}

uint64_t json_number(struct json_object *o, const char *key)
{
    struct json_object *value = json_member(o, key);

    return value != NULL ? json_object_get_uint64(value) : 0;
}

const char *json_text(struct json_object *o, const char *key)
{
    struct json_object *value = json_member(o, key);

    return value != NULL ? json_object_get_string(value) : "";
}
