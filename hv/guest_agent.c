/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest agent's protocol: one JSON object asks, one answers with "return". Who answers is root in a guest
 * that we do not trust: each field is checked for being there, its type and its range, what it may fill is
 * bounded before it is decoded, and no answer makes us ask more often than the deadline and the back-off allow.
 */
#include "hv/guest_agent.h"

#include "base/clock.h"
#include "base/error.h"
#include <arpa/inet.h>
#include <jansson.h>
#include <string.h>

#define COMMAND_MAX_S 10
#define POLL_FIRST_MS 50
#define POLL_MAX_MS 500
#define MAX_SILENCES 3 /* polls that the agent left without an answer, one after the other */
#define READ_CHUNK (48 * 1024)
#define WRITE_CHUNK (48 * 1024)
#define MAX_ADDRESSES 256

static gboolean nonsense(const char *what, GError **error)
{
    g_set_error(error, VR_ERROR, VR_ERROR_AGENT, "the guest agent's answer has %s", what);
    return FALSE;
}

/* -- One command ---------------------------------------------------------------------------------- */

/* Takes arguments (NULL: none). NULL when a string of ours is not UTF-8. */
static char *command_text(const char *name, json_t *arguments)
{
    json_auto_t *command = json_object();

    json_object_set_new(command, "execute", json_string(name));
    if (arguments != NULL)
        json_object_set_new(command, "arguments", arguments);
    char *text = json_dumps(command, JSON_COMPACT);
    char *copy = g_strdup(text);
    free(text);
    return copy;
}

/* The value of "return". */
static json_t *parse_reply(const char *reply, GError **error)
{
    json_error_t where;
    json_auto_t *root = json_loads(reply, JSON_REJECT_DUPLICATES, &where);

    if (root == NULL || !json_is_object(root)) {
        nonsense("no JSON object", error);
        return NULL;
    }
    json_t *value = json_object_get(root, "return");
    if (value == NULL) {
        nonsense("no 'return'", error);
        return NULL;
    }
    return json_incref(value);
}

static int seconds_left(gint64 deadline_ms)
{
    gint64 left = (deadline_ms - vr_clock_now_ms() + 999) / 1000;

    return (int)CLAMP(left, 1, COMMAND_MAX_S);
}

/* Takes arguments. *silent (may be NULL) becomes TRUE when nobody answered, as against nonsense. */
static json_t *ask(VrHv *hv, const char *uuid, const char *name, json_t *arguments, int timeout_s, gboolean *silent,
                   GError **error)
{
    g_autofree char *command = command_text(name, arguments);
    g_autoptr(GError) local = NULL;

    if (silent != NULL)
        *silent = FALSE;
    if (command == NULL) {
        g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "%s: an argument is not UTF-8", name);
        return NULL;
    }
    g_autofree char *reply = vr_hv_agent(hv, uuid, command, timeout_s, &local);
    if (reply != NULL)
        return parse_reply(reply, error);
    if (silent != NULL)
        *silent = g_error_matches(local, VR_ERROR, VR_ERROR_AGENT);
    g_propagate_prefixed_error(error, g_steal_pointer(&local), "%s: ", name);
    return NULL;
}

gboolean vr_agent_ping(VrHv *hv, const char *uuid, int timeout_s, GError **error)
{
    json_auto_t *value = ask(hv, uuid, "guest-ping", NULL, timeout_s, NULL, error);

    return value != NULL;
}

/* -- Fields --------------------------------------------------------------------------------------- */

static gboolean get_integer(const json_t *object, const char *name, gint64 min, gint64 max, gint64 *out, GError **error)
{
    const json_t *value = json_object_get(object, name);

    if (!json_is_integer(value) || json_integer_value(value) < min || json_integer_value(value) > max) {
        g_set_error(error, VR_ERROR, VR_ERROR_AGENT, "the guest agent's answer has no valid '%s'", name);
        return FALSE;
    }
    *out = json_integer_value(value);
    return TRUE;
}

static gboolean is_base64(const char *text, gsize length)
{
    gsize body = strspn(text, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "+/");
    gsize padding = strspn(text + body, "=");

    return body + padding == length && padding <= 2 && length % 4 == 0;
}

/* A base64 field, checked; an absent one is empty. NULL: it is none. */
static const char *get_base64_text(const json_t *object, const char *name, gsize *size, GError **error)
{
    const json_t *value = json_object_get(object, name);
    const char *text = value == NULL ? "" : json_string_value(value);
    gsize length = text != NULL ? strlen(text) : 0;

    if (text == NULL || !is_base64(text, length)) {
        g_set_error(error, VR_ERROR, VR_ERROR_AGENT, "the guest agent's answer has no valid '%s'", name);
        return NULL;
    }
    *size = length;
    return text;
}

/* Decodes a base64 field into at most max bytes (what is more is cut), NUL-terminated. *more (may be NULL) says whether something was cut. */
static char *get_base64(const json_t *object, const char *name, gsize max, gsize *length, gboolean *more,
                        GError **error)
{
    gsize size;
    const char *text = get_base64_text(object, name, &size, error);

    if (text == NULL)
        return NULL;
    gsize wanted = size / 4 > max / 3 ? (max / 3 + 1) * 4 : size;
    g_autofree char *part = g_strndup(text, wanted);
    gsize got = 0;
    char *data = wanted > 0 ? (char *)g_base64_decode(part, &got) : NULL;
    if (more != NULL)
        *more = got > max || wanted < size;
    got = MIN(got, max);
    data = g_realloc(data, got + 1);
    data[got] = '\0';
    *length = got;
    return data;
}

/* Likewise, but its last max bytes: of an output the end says most. *cut becomes TRUE when something is missing. */
static char *get_base64_end(const json_t *object, const char *name, gsize max, gboolean *cut, GError **error)
{
    gsize size, got = 0;
    const char *text = get_base64_text(object, name, &size, error);

    if (text == NULL)
        return NULL;
    gsize wanted = MIN(size, (max / 3 + 2) * 4); /* the last group may hold one byte */
    g_autofree char *data = wanted > 0 ? (char *)g_base64_decode(text + size - wanted, &got) : NULL;
    gsize kept = MIN(got, max);
    char *end = g_malloc(kept + 1);
    if (kept > 0)
        memcpy(end, data + got - kept, kept);
    end[kept] = '\0';
    *cut = *cut || got > max || wanted < size;
    return end;
}

/* -- Exec ----------------------------------------------------------------------------------------- */

void vr_agent_result_clear(VrAgentResult *result)
{
    g_clear_pointer(&result->out, g_free);
    g_clear_pointer(&result->err, g_free);
}

static json_t *exec_arguments(const char *const *argv, const void *input, gsize length)
{
    json_t *arguments = json_object();
    json_t *rest = json_array();

    for (gsize i = 1; argv[i] != NULL; i++)
        json_array_append_new(rest, json_string(argv[i]));
    json_object_set_new(arguments, "path", json_string(argv[0]));
    json_object_set_new(arguments, "arg", rest);
    json_object_set_new(arguments, "capture-output", json_true());
    if (input != NULL) {
        g_autofree char *text = g_base64_encode(input, length);
        json_object_set_new(arguments, "input-data", json_string(text));
    }
    return arguments;
}

static gboolean argv_is_utf8(const char *const *argv, GError **error)
{
    for (gsize i = 0; argv[i] != NULL; i++) {
        if (!g_utf8_validate(argv[i], -1, NULL)) {
            g_set_error(error, VR_ERROR, VR_ERROR_INVALID,
                        "argument %" G_GSIZE_FORMAT " of a guest's command is not UTF-8", i);
            return FALSE;
        }
    }
    return TRUE;
}

gboolean vr_agent_exec_begin(VrHv *hv, const char *uuid, const char *const *argv, const void *input, gsize length,
                             gint64 deadline_ms, gint64 *pid, GError **error)
{
    if (argv[0] == NULL || !argv_is_utf8(argv, error)) {
        if (argv[0] == NULL)
            g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, "a guest's command without a name");
        return FALSE;
    }
    json_t *arguments = exec_arguments(argv, input, length);
    json_auto_t *value = ask(hv, uuid, "guest-exec", arguments, seconds_left(deadline_ms), NULL, error);
    return value != NULL && get_integer(value, "pid", 1, G_MAXINT64, pid, error);
}

static gboolean read_exit_status(const json_t *status, int *exit_status, GError **error)
{
    gboolean killed = json_object_get(status, "signal") != NULL;
    gint64 number;

    if (!get_integer(status, killed ? "signal" : "exitcode", killed ? 1 : 0, killed ? 127 : 255, &number, error))
        return FALSE;
    *exit_status = (int)(killed ? 128 + number : number);
    return TRUE;
}

static gboolean read_result(const json_t *status, gsize max_output, VrAgentResult *result, GError **error)
{
    result->cut = json_is_true(json_object_get(status, "out-truncated"));
    if (!read_exit_status(status, &result->exit_status, error))
        return FALSE;
    result->out = get_base64_end(status, "out-data", max_output, &result->cut, error);
    if (result->out != NULL)
        result->err = get_base64_end(status, "err-data", max_output, &result->cut, error);
    if (result->err == NULL)
        vr_agent_result_clear(result);
    return result->err != NULL;
}

int vr_agent_exec_look(VrHv *hv, const char *uuid, gint64 pid, gsize max_output, gint64 deadline_ms, guint *silences,
                       VrAgentResult *result, GError **error)
{
    g_autoptr(GError) local = NULL;
    gboolean silent;
    json_t *arguments = json_pack("{s:I}", "pid", (json_int_t)pid);
    json_auto_t *status = ask(hv, uuid, "guest-exec-status", arguments, seconds_left(deadline_ms), &silent, &local);

    *silences = silent ? *silences + 1 : 0;
    if (status == NULL && silent && *silences < MAX_SILENCES)
        return 0;
    if (status == NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return -1;
    }
    const json_t *exited = json_object_get(status, "exited");
    if (!json_is_boolean(exited)) {
        nonsense("no valid 'exited'", error);
        return -1;
    }
    if (!json_boolean_value(exited))
        return 0;
    return read_result(status, max_output, result, error) ? 1 : -1;
}

/* TRUE with its error when the wait for argv[0] is over. */
static gboolean must_stop_waiting(const char *name, gint64 now_ms, gint64 deadline_ms, const gint *aborted,
                                  GError **error)
{
    if (aborted != NULL && g_atomic_int_get(aborted) != 0)
        g_set_error(error, VR_ERROR, VR_ERROR_CANCELLED, "the wait for %s in the guest was ended", name);
    else if (now_ms >= deadline_ms)
        g_set_error(error, VR_ERROR, VR_ERROR_TIMEOUT, "%s still runs in the guest", name);
    else
        return FALSE;
    return TRUE;
}

gboolean vr_agent_exec_input(VrHv *hv, const char *uuid, const char *const *argv, const void *input, gsize length,
                             gsize max_output, gint64 deadline_ms, const gint *aborted, VrAgentResult *result,
                             GError **error)
{
    gint64 pid, pause = POLL_FIRST_MS;
    guint silences = 0;
    int ended;

    memset(result, 0, sizeof *result);
    if (!vr_agent_exec_begin(hv, uuid, argv, input, length, deadline_ms, &pid, error))
        return FALSE;
    while ((ended = vr_agent_exec_look(hv, uuid, pid, max_output, deadline_ms, &silences, result, error)) == 0) {
        gint64 now = vr_clock_now_ms();
        if (must_stop_waiting(argv[0], now, deadline_ms, aborted, error))
            return FALSE;
        vr_clock_sleep_until(MIN(deadline_ms, now + pause));
        pause = MIN(pause * 2, POLL_MAX_MS);
    }
    return ended == 1;
}

gboolean vr_agent_exec(VrHv *hv, const char *uuid, const char *const *argv, gsize max_output, gint64 deadline_ms,
                       const gint *aborted, VrAgentResult *result, GError **error)
{
    return vr_agent_exec_input(hv, uuid, argv, NULL, 0, max_output, deadline_ms, aborted, result, error);
}

/* -- Files ---------------------------------------------------------------------------------------- */

static gboolean file_open(VrHv *hv, const char *uuid, const char *path, const char *mode, gint64 deadline_ms,
                          gint64 *handle, GError **error)
{
    if (!g_utf8_validate(path, -1, NULL)) {
        g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID, "the path of a guest's file is not UTF-8");
        return FALSE;
    }
    json_t *arguments = json_pack("{s:s, s:s}", "path", path, "mode", mode);
    json_auto_t *value = ask(hv, uuid, "guest-file-open", arguments, seconds_left(deadline_ms), NULL, error);
    if (value == NULL)
        return FALSE;
    if (!json_is_integer(value))
        return nonsense("no file handle", error);
    *handle = json_integer_value(value);
    return TRUE;
}

static void file_close(VrHv *hv, const char *uuid, gint64 handle)
{
    json_t *arguments = json_pack("{s:I}", "handle", (json_int_t)handle);
    json_auto_t *value = ask(hv, uuid, "guest-file-close", arguments, COMMAND_MAX_S, NULL, NULL);
}

/* One read; appends. An answer without a byte that is not the end either would let us ask for ever. */
static gboolean file_read_chunk(VrHv *hv, const char *uuid, gint64 handle, gsize max, gint64 deadline_ms,
                                GByteArray *content, gboolean *eof, GError **error)
{
    json_t *arguments = json_pack("{s:I, s:i}", "handle", (json_int_t)handle, "count", READ_CHUNK);
    json_auto_t *value = ask(hv, uuid, "guest-file-read", arguments, seconds_left(deadline_ms), NULL, error);
    gsize length = 0;
    gboolean more = FALSE;

    if (value == NULL)
        return FALSE;
    g_autofree char *data = get_base64(value, "buf-b64", max - content->len, &length, &more, error);
    if (data == NULL)
        return FALSE;
    const json_t *end = json_object_get(value, "eof");
    if (!json_is_boolean(end))
        return nonsense("no valid 'eof'", error);
    if (more) {
        g_set_error(error, VR_ERROR, VR_ERROR_AGENT, "the guest's file is larger than %" G_GSIZE_FORMAT " bytes", max);
        return FALSE;
    }
    *eof = json_boolean_value(end);
    if (length == 0 && !*eof)
        return nonsense("neither data nor the end of the file", error);
    g_byte_array_append(content, (const guint8 *)data, (guint)length);
    return TRUE;
}

static gboolean file_read(VrHv *hv, const char *uuid, gint64 handle, gsize max, gint64 deadline_ms, GByteArray *content,
                          GError **error)
{
    gboolean eof = FALSE;

    while (!eof) {
        if (vr_clock_now_ms() >= deadline_ms) {
            g_set_error_literal(error, VR_ERROR, VR_ERROR_TIMEOUT, "the guest's file was not read in time");
            return FALSE;
        }
        if (!file_read_chunk(hv, uuid, handle, max, deadline_ms, content, &eof, error))
            return FALSE;
    }
    return TRUE;
}

char *vr_agent_read_file(VrHv *hv, const char *uuid, const char *path, gsize max, gint64 deadline_ms, gsize *length,
                         GError **error)
{
    g_autoptr(GByteArray) content = g_byte_array_new();
    gint64 handle = -1;

    if (!file_open(hv, uuid, path, "r", deadline_ms, &handle, error))
        return NULL;
    gboolean ok = file_read(hv, uuid, handle, max, deadline_ms, content, error);
    file_close(hv, uuid, handle);
    if (!ok) {
        g_prefix_error(error, "%s: ", path);
        return NULL;
    }
    if (length != NULL)
        *length = content->len;
    g_byte_array_append(content, (const guint8 *)"", 1);
    return (char *)g_byte_array_free(g_steal_pointer(&content), FALSE);
}

/* One write: how much of it the guest took, 0 on an error. An answer that takes nothing would let us ask for ever. */
static gsize file_write_chunk(VrHv *hv, const char *uuid, gint64 handle, const char *data, gsize length,
                              gint64 deadline_ms, GError **error)
{
    g_autofree char *text = g_base64_encode((const guchar *)data, length);
    json_t *arguments = json_pack("{s:I, s:s}", "handle", (json_int_t)handle, "buf-b64", text);
    json_auto_t *value = ask(hv, uuid, "guest-file-write", arguments, seconds_left(deadline_ms), NULL, error);
    gint64 count;

    return value != NULL && get_integer(value, "count", 1, (gint64)length, &count, error) ? (gsize)count : 0;
}

static gboolean file_write(VrHv *hv, const char *uuid, gint64 handle, const char *data, gsize length,
                           gint64 deadline_ms, GError **error)
{
    for (gsize done = 0, count; done < length; done += count) {
        if (vr_clock_now_ms() >= deadline_ms) {
            g_set_error_literal(error, VR_ERROR, VR_ERROR_TIMEOUT, "the guest's file was not written in time");
            return FALSE;
        }
        count = file_write_chunk(hv, uuid, handle, data + done, MIN(length - done, WRITE_CHUNK), deadline_ms, error);
        if (count == 0)
            return FALSE;
    }
    json_t *arguments = json_pack("{s:I}", "handle", (json_int_t)handle);
    json_auto_t *value = ask(hv, uuid, "guest-file-flush", arguments, seconds_left(deadline_ms), NULL, error);
    return value != NULL;
}

gboolean vr_agent_write_file(VrHv *hv, const char *uuid, const char *path, const char *data, gsize length,
                             gint64 deadline_ms, GError **error)
{
    gint64 handle = -1;

    if (!file_open(hv, uuid, path, "w", deadline_ms, &handle, error))
        return FALSE;
    gboolean ok = file_write(hv, uuid, handle, data, length, deadline_ms, error);
    file_close(hv, uuid, handle);
    if (!ok)
        g_prefix_error(error, "%s: ", path);
    return ok;
}

char *vr_agent_boot_id(VrHv *hv, const char *uuid, gint64 deadline_ms, GError **error)
{
    g_autofree char *id = vr_agent_read_file(hv, uuid, "/proc/sys/kernel/random/boot_id", 64, deadline_ms, NULL, error);

    if (id == NULL)
        return NULL;
    g_strchomp(id);
    if (!g_uuid_string_is_valid(id)) {
        nonsense("no valid boot id", error);
        return NULL;
    }
    return g_steal_pointer(&id);
}

/* -- Network cards -------------------------------------------------------------------------------- */

void vr_guest_address_free(VrGuestAddress *address)
{
    if (address == NULL)
        return;
    g_free(address->ip);
    g_free(address);
}

/* NULL when ip is none. */
static VrGuestAddress *guest_address_new(const char *mac, const char *ip)
{
    unsigned char unused[sizeof(struct in6_addr)];
    gboolean v6 = ip != NULL && inet_pton(AF_INET6, ip, unused) == 1;
    VrGuestAddress *address;

    if (ip == NULL || (!v6 && inet_pton(AF_INET, ip, unused) != 1))
        return NULL;
    address = g_new0(VrGuestAddress, 1);
    address->ip = g_strdup(ip);
    address->v6 = v6;
    if (mac != NULL && strlen(mac) == sizeof address->mac - 1) {
        g_autofree char *lower = g_ascii_strdown(mac, -1);
        g_strlcpy(address->mac, lower, sizeof address->mac);
    }
    return address;
}

/* What is no address is left out; the rest of the answer may still be of use. */
static void add_card(const json_t *card, GPtrArray *addresses)
{
    const char *mac = json_string_value(json_object_get(card, "hardware-address"));
    const json_t *list = json_object_get(card, "ip-addresses");

    for (gsize i = 0; i < json_array_size(list) && addresses->len < MAX_ADDRESSES; i++) {
        const char *ip = json_string_value(json_object_get(json_array_get(list, i), "ip-address"));
        VrGuestAddress *address = guest_address_new(mac, ip);

        if (address != NULL)
            g_ptr_array_add(addresses, address);
    }
}

GPtrArray *vr_agent_addresses(VrHv *hv, const char *uuid, gint64 deadline_ms, GError **error)
{
    json_auto_t *cards = ask(hv, uuid, "guest-network-get-interfaces", NULL, seconds_left(deadline_ms), NULL, error);
    GPtrArray *addresses;

    if (cards == NULL)
        return NULL;
    if (!json_is_array(cards)) {
        nonsense("no list of network cards", error);
        return NULL;
    }
    addresses = g_ptr_array_new_with_free_func((GDestroyNotify)vr_guest_address_free);
    for (gsize i = 0; i < json_array_size(cards); i++)
        add_card(json_array_get(cards, i), addresses);
    return addresses;
}
