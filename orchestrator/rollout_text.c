/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/rollout_text.h"

#include <string.h>

typedef struct {
    guint count;
    guint order;
    char *first; /* as it was given */
} ReasonCount;

/* Without digits, and without the host of an address: "http://web-a.lan:8080/health: connection refused" of one guest is the same
 * as that of another. */
static char *reason_key(const char *reason)
{
    GString *key = g_string_new(NULL);

    for (const char *at = reason; *at != '\0'; at++) {
        if (g_str_has_prefix(at, "://"))
            at += strcspn(at + 3, "/ ") + 2;
        else if (!g_ascii_isdigit(*at))
            g_string_append_c(key, *at);
    }
    return g_string_free(key, FALSE);
}

static void reason_count_free(ReasonCount *count)
{
    g_free(count->first);
    g_free(count);
}

void vr_reasons_init(VrReasons *reasons)
{
    reasons->counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)reason_count_free);
    reasons->total = 0;
}

void vr_reasons_clear(VrReasons *reasons)
{
    g_clear_pointer(&reasons->counts, g_hash_table_unref);
}

const char *vr_reasons_add(VrReasons *reasons, const char *reason)
{
    g_autofree char *key = reason_key(reason);
    gpointer stored, value;
    ReasonCount *count;

    reasons->total++;
    if (g_hash_table_lookup_extended(reasons->counts, key, &stored, &value)) {
        count = value;
        count->count++;
        return stored;
    }
    count = g_new0(ReasonCount, 1);
    count->count = 1;
    count->order = g_hash_table_size(reasons->counts);
    count->first = g_strdup(reason);
    stored = g_steal_pointer(&key);
    g_hash_table_insert(reasons->counts, stored, count);
    return stored;
}

const char *vr_reasons_text(const VrReasons *reasons, const char *key)
{
    const ReasonCount *count = key != NULL ? g_hash_table_lookup(reasons->counts, key) : NULL;

    return count != NULL ? count->first : NULL;
}

const char *vr_reasons_key(const VrReasons *reasons, const char *reason)
{
    g_autofree char *key = reason_key(reason);
    gpointer stored = NULL;

    g_hash_table_lookup_extended(reasons->counts, key, &stored, NULL);
    return stored;
}

void vr_reasons_append_most_common(const VrReasons *reasons, GString *text)
{
    const ReasonCount *best = NULL;
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, reasons->counts);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const ReasonCount *count = value;

        if (best == NULL || count->count > best->count || (count->count == best->count && count->order < best->order))
            best = count;
    }
    if (best != NULL)
        g_string_append_printf(text, "; the most common reason (%u of %u): %s", best->count, reasons->total,
                               best->first);
}

void vr_text_append_share(GString *text, guint part, guint whole, const char *what)
{
    guint64 tenths = whole == 0 ? 0 : ((guint64)part * 1000 + whole - 1) / whole;

    g_string_append_printf(text, "%u of %u %s (%" G_GUINT64_FORMAT, part, whole, what, tenths / 10);
    if (tenths % 10 != 0)
        g_string_append_printf(text, ".%" G_GUINT64_FORMAT, tenths % 10);
    g_string_append(text, "%)");
}
