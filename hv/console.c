/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hv/console.h"

#include "base/error.h"
#include "hv/domain_dom.h"
#include <pthread.h>
#include <string.h>

/* How much the tail may be too long before its front is cut off: what is moved then is three times what came. */
#define TAIL_SLACK (64 * 1024)

#define ESC '\033'

/* -- Where it goes ---------------------------------------------------------------------------------- */

void vr_console_device_clear(VrConsoleDevice *device)
{
    g_clear_pointer(&device->path, g_free);
    *device = (VrConsoleDevice){0};
}

/* A console that is a serial port is the first of them, and what libvirt shows under <console> is a copy. */
static const xmlNode *first_console(const xmlNode *devices)
{
    const xmlNode *console = vr_dom_child(devices, "console"), *serial = vr_dom_child(devices, "serial");
    const xmlNode *target = vr_dom_child(console, "target");
    g_autofree char *type = vr_dom_attribute(target, "type");

    return serial != NULL && (type == NULL || g_str_equal(type, "serial")) ? serial : console;
}

/* The log of a console says the same as the console, and nobody has to be kept out of that. */
static void read_device(const xmlNode *node, VrConsoleDevice *device)
{
    const xmlNode *log = vr_dom_child(node, "log"), *source = vr_dom_child(node, "source");
    gboolean is_file = vr_dom_attribute_is(node, "type", "file");

    if (log != NULL || is_file) {
        device->path = log != NULL ? vr_dom_attribute(log, "file") : vr_dom_attribute(source, "path");
        device->anew = !vr_dom_attribute_is(log != NULL ? log : source, "append", "on");
        device->kind = device->path != NULL && device->path[0] == '/' ? VR_CONSOLE_FILE : VR_CONSOLE_NONE;
    } else if (vr_dom_attribute_is(node, "type", "pty")) {
        device->kind = VR_CONSOLE_PTY;
    }
}

void vr_domain_xml_console(const char *xml, VrConsoleDevice *device)
{
    g_autoptr(xmlDoc) doc = vr_dom_parse(xml, "domain", NULL);
    const xmlNode *node = doc ? first_console(vr_dom_child(xmlDocGetRootElement(doc), "devices")) : NULL;

    *device = (VrConsoleDevice){0};
    if (node != NULL)
        read_device(node, device);
}

/* -- What is kept ------------------------------------------------------------------------------------ */

struct VrConsole {
    pthread_mutex_t lock; /* of all of it */
    guint refs;
    GByteArray *head, *tail; /* NULL: dropped */
    guint64 came, passed_over;
    char *why; /* NULL: there is nothing to say */
    gboolean closed;
    VrConsoleClosed on_close;
    void *on_close_data;
};

VrConsole *vr_console_new(void)
{
    VrConsole *console = g_new0(VrConsole, 1);

    pthread_mutex_init(&console->lock, NULL);
    console->refs = 1;
    console->head = g_byte_array_new();
    console->tail = g_byte_array_new();
    return console;
}

VrConsole *vr_console_ref(VrConsole *console)
{
    pthread_mutex_lock(&console->lock);
    console->refs++;
    pthread_mutex_unlock(&console->lock);
    return console;
}

static void drop_bytes(VrConsole *console)
{
    g_clear_pointer(&console->head, g_byte_array_unref);
    g_clear_pointer(&console->tail, g_byte_array_unref);
}

void vr_console_unref(VrConsole *console)
{
    if (console == NULL)
        return;
    pthread_mutex_lock(&console->lock);
    gboolean last = --console->refs == 0;
    pthread_mutex_unlock(&console->lock);
    if (!last)
        return;
    drop_bytes(console);
    g_free(console->why);
    pthread_mutex_destroy(&console->lock);
    g_free(console);
}

static void say(VrConsole *console, const char *why)
{
    if (console->why == NULL)
        console->why = g_strdup(why);
}

/* With the lock held. */
static void take(VrConsole *console, const char *bytes, gsize length)
{
    gsize fits = MIN(length, VR_CONSOLE_HEAD - console->head->len);

    g_byte_array_append(console->head, (const guint8 *)bytes, (guint)fits);
    length -= fits;
    bytes += fits + (length > VR_CONSOLE_TAIL ? length - VR_CONSOLE_TAIL : 0);
    g_byte_array_append(console->tail, (const guint8 *)bytes, (guint)MIN(length, VR_CONSOLE_TAIL));
    if (console->tail->len > VR_CONSOLE_TAIL + TAIL_SLACK)
        g_byte_array_remove_range(console->tail, 0, console->tail->len - VR_CONSOLE_TAIL);
}

gboolean vr_console_add(VrConsole *console, const char *bytes, gsize length)
{
    pthread_mutex_lock(&console->lock);
    gboolean wanted = !console->closed;
    if (wanted) {
        take(console, bytes, length);
        console->came += length;
    }
    if (wanted && console->came - console->passed_over > VR_CONSOLE_MOST) {
        say(console, "the guest floods its console, which is not read any more");
        wanted = FALSE;
    }
    pthread_mutex_unlock(&console->lock);
    return wanted;
}

/* What is in the tail lies before the gap, and would read as if it lay behind it. */
void vr_console_pass_over(VrConsole *console, guint64 bytes)
{
    pthread_mutex_lock(&console->lock);
    if (!console->closed && bytes > 0) {
        console->came += bytes;
        console->passed_over += bytes;
        g_byte_array_set_size(console->tail, 0);
    }
    pthread_mutex_unlock(&console->lock);
}

gboolean vr_console_has_head(VrConsole *console)
{
    pthread_mutex_lock(&console->lock);
    gboolean has = console->head == NULL || console->head->len == VR_CONSOLE_HEAD;
    pthread_mutex_unlock(&console->lock);
    return has;
}

void vr_console_say(VrConsole *console, const char *why)
{
    pthread_mutex_lock(&console->lock);
    if (!console->closed)
        say(console, why);
    pthread_mutex_unlock(&console->lock);
}

void vr_console_close(VrConsole *console)
{
    pthread_mutex_lock(&console->lock);
    VrConsoleClosed func = console->on_close;
    console->on_close = NULL;
    console->closed = TRUE;
    pthread_mutex_unlock(&console->lock);
    const char *why = func != NULL ? func(console->on_close_data) : NULL;
    if (why == NULL)
        return;
    pthread_mutex_lock(&console->lock);
    say(console, why);
    pthread_mutex_unlock(&console->lock);
}

gboolean vr_console_on_close(VrConsole *console, VrConsoleClosed func, void *data)
{
    pthread_mutex_lock(&console->lock);
    gboolean open = !console->closed;
    if (open) {
        console->on_close = func;
        console->on_close_data = data;
    }
    pthread_mutex_unlock(&console->lock);
    return open;
}

/* With the lock held. */
static void append_kept(const VrConsole *console, GString *text)
{
    gsize tail = MIN(console->tail->len, VR_CONSOLE_TAIL);
    guint64 left_out = console->came - console->head->len - tail;

    g_string_append_len(text, (const char *)console->head->data, console->head->len);
    if (left_out > 0)
        g_string_append_printf(text, "\n[virt-reimage: %" G_GUINT64_FORMAT " bytes are left out here]\n", left_out);
    g_string_append_len(text, (const char *)console->tail->data + console->tail->len - tail, (gssize)tail);
}

char *vr_console_text(VrConsole *console, gsize *length)
{
    GString *text = g_string_new(NULL);

    pthread_mutex_lock(&console->lock);
    if (console->head != NULL)
        append_kept(console, text);
    if (console->why != NULL)
        g_string_append_printf(text, "%s[virt-reimage: %s]\n",
                               text->len > 0 && text->str[text->len - 1] != '\n' ? "\n" : "", console->why);
    pthread_mutex_unlock(&console->lock);
    *length = text->len;
    return g_string_free(text, FALSE);
}

void vr_console_drop(VrConsole *console)
{
    vr_console_close(console);
    pthread_mutex_lock(&console->lock);
    drop_bytes(console);
    pthread_mutex_unlock(&console->lock);
}

/* -- For a person ------------------------------------------------------------------------------------ */

static gboolean is_within(char c, char first, char last)
{
    return c >= first && c <= last;
}

/* Of a sequence that begins with ESC at `at`: the byte after it. One that does not end takes the rest of the line. */
static const char *after_escape(const char *at, const char *end)
{
    at++;
    if (at < end && *at == '[') {
        for (at++; at < end && !is_within(*at, '@', '~'); at++)
            ;
        return MIN(at + 1, end);
    }
    if (at < end && *at != '\0' && strchr("]PX^_", *at) != NULL) { /* a text, ended by BEL or ESC \ */
        for (at++; at < end && *at != '\a' && *at != ESC; at++)
            ;
        return MIN(at + (at < end && *at == ESC ? 2 : 1), end);
    }
    while (at < end && is_within(*at, ' ', '/'))
        at++;
    return MIN(at + 1, end);
}

/* One line as a terminal would leave it: a carriage return begins it anew. */
static char *clean_line(const char *at, const char *end)
{
    g_autoptr(GString) line = g_string_new(NULL);
    g_autofree char *shown = NULL;
    gboolean overwrites = FALSE;

    while (at < end) {
        if (*at == ESC) {
            at = after_escape(at, end);
            continue;
        }
        if (*at == '\r') {
            overwrites = TRUE;
        } else if (*at == '\b') {
            g_string_truncate(line, line->len > 0 ? line->len - 1 : 0);
        } else if (*at == '\t' || !g_ascii_iscntrl(*at)) {
            if (overwrites)
                g_string_truncate(line, 0);
            overwrites = FALSE;
            if (line->len <= VR_CONSOLE_LINE)
                g_string_append_c(line, *at == '\t' ? ' ' : *at);
        }
        at++;
    }
    gboolean cut = line->len > VR_CONSOLE_LINE;
    if (cut) { /* not within a character of UTF-8 */
        gsize fits = VR_CONSOLE_LINE;
        while (fits > 0 && ((guint8)line->str[fits] & 0xc0) == 0x80)
            fits--;
        g_string_truncate(line, fits);
    }
    shown = vr_printable(line->str, (gssize)line->len);
    g_strchomp(shown);
    return cut ? g_strconcat(shown, "…", NULL) : g_steal_pointer(&shown);
}

/* The beginning of the line that ends at `end`. */
static const char *begin_of_line(const char *text, const char *end)
{
    while (end > text && end[-1] != '\n')
        end--;
    return end;
}

static void reverse(GPtrArray *lines)
{
    for (guint i = 0; i < lines->len / 2; i++) {
        gpointer one = lines->pdata[i];
        lines->pdata[i] = lines->pdata[lines->len - 1 - i];
        lines->pdata[lines->len - 1 - i] = one;
    }
}

GPtrArray *vr_console_lines(const char *text, gsize length, guint most)
{
    GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);
    const char *end = text + length;

    while (lines->len < most) {
        const char *begin = begin_of_line(text, end);
        g_autofree char *line = clean_line(begin, end);
        if (line[0] != '\0')
            g_ptr_array_add(lines, g_steal_pointer(&line));
        if (begin == text)
            break;
        end = begin - 1;
    }
    reverse(lines);
    return lines;
}
