/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/log.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static gint chosen_level = VR_LOG_WARNING; /* atomic */

void vr_log_set_level(VrLogLevel level)
{
    g_atomic_int_set(&chosen_level, (gint)level);
}

static gpointer read_environment(gpointer unused)
{
    return GINT_TO_POINTER(g_strcmp0(g_getenv("VIRT_REIMAGE_DEBUG"), "1") == 0);
}

static gboolean is_wanted(VrLogLevel level)
{
    static GOnce once = G_ONCE_INIT;
    return (gint)level >= g_atomic_int_get(&chosen_level) || GPOINTER_TO_INT(g_once(&once, read_environment, NULL));
}

static const struct {
    const char *word, *priority; /* priority as in syslog(3) */
    GLogLevelFlags glib;
} levels[] = {
    [VR_LOG_DEBUG] = {"debug", "7", G_LOG_LEVEL_DEBUG},
    [VR_LOG_INFO] = {"info", "6", G_LOG_LEVEL_INFO},
    [VR_LOG_WARNING] = {"warning", "4", G_LOG_LEVEL_WARNING},
};

static gboolean to_journal(VrLogLevel level, const char *message_id, const char *object, const char *message)
{
    if (!g_log_writer_is_journald(STDERR_FILENO))
        return FALSE;
    GLogField fields[5];
    gsize n = 0;
    fields[n++] = (GLogField){"MESSAGE", message, -1};
    fields[n++] = (GLogField){"PRIORITY", levels[level].priority, -1};
    fields[n++] = (GLogField){"SYSLOG_IDENTIFIER", "virt-reimage", -1};
    if (message_id)
        fields[n++] = (GLogField){"MESSAGE_ID", message_id, -1};
    if (object)
        fields[n++] = (GLogField){"VIRT_REIMAGE_OBJECT", object, -1};
    return g_log_writer_journald(levels[level].glib, fields, n, NULL) == G_LOG_WRITER_HANDLED;
}

void vr_log(VrLogLevel level, const char *message_id, const char *object, const char *format, ...)
{
    if (!is_wanted(level))
        return;
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *message = vr_printable(text, -1);
    g_autofree char *about = object ? vr_printable(object, -1) : NULL;
    if (to_journal(level, message_id, about, message))
        return;
    /* One call a line: stdio locks the stream for it, so lines of two threads do not mix. */
    fprintf(stderr, "%s: %s%s%s\n", levels[level].word, about ? about : "", about ? ": " : "", message);
}
