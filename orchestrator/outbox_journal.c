/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Notices in the journal of systemd, with a fixed MESSAGE_ID for each kind ('journalctl MESSAGE_ID=...'; docs/notices.md has them too). */
#include "orchestrator/outbox_private.h"

#include "base/error.h"

#include <unistd.h>

#define SOCKET "/run/systemd/journal/socket" /* sd_journal_send(3), and https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ */

static const char *const message_ids[] = {
    [VR_OUTBOX_SUBMITTED] = "aa9953cd71a649febb6d5b0d72384627",
    [VR_OUTBOX_RESULT] = "22faa21eda484ff4a9ab46012c480f4b",
    [VR_OUTBOX_COMPLETION] = "8a78e2420b1f456e845f788c8f955fe3",
};
G_STATIC_ASSERT(G_N_ELEMENTS(message_ids) == VR_OUTBOX_KINDS_);

gboolean vr_outbox_has_journal(void)
{
    return access(SOCKET, F_OK) == 0;
}

/* As in syslog(3): 4 warning, 5 notice, 6 info. */
static const char *priority_of(const VrOutboxNotice *notice, const char *outcome)
{
    if (g_strcmp0(outcome, "Refused") == 0 || g_strcmp0(outcome, "Faulted") == 0)
        return "4";
    return notice->kind == VR_OUTBOX_COMPLETION ? "5" : "6";
}

gboolean vr_outbox_send_journal(const VrChannel *channel, const VrOutboxNotice *notice, GError **error)
{
    g_autofree char *text = vr_outbox_text(notice), *outcome = vr_outbox_outcome(notice);
    const GLogField fields[] = {{"MESSAGE", text, -1},
                                {"MESSAGE_ID", message_ids[notice->kind], -1},
                                {"PRIORITY", priority_of(notice, outcome), -1},
                                {"SYSLOG_IDENTIFIER", "virt-reimage", -1},
                                {"VIRT_REIMAGE_OBJECT", notice->set_name, -1},
                                {"VIRT_REIMAGE_KIND", vr_outbox_kind_name(notice->kind), -1},
                                {"VIRT_REIMAGE_SET", notice->set_name, -1},
                                {"VIRT_REIMAGE_NOTICE", notice->id, -1},
                                {"VIRT_REIMAGE_JSON", notice->body, -1},
                                {"VIRT_REIMAGE_RUN", notice->run_id, -1},
                                {"VIRT_REIMAGE_OUTCOME", outcome, -1}};
    GLogField known[G_N_ELEMENTS(fields)];
    gsize n = 0;

    for (gsize i = 0; i < G_N_ELEMENTS(fields); i++)
        if (fields[i].value)
            known[n++] = fields[i];
    if (g_log_writer_journald(G_LOG_LEVEL_MESSAGE, known, n, NULL) == G_LOG_WRITER_HANDLED)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_IO, "the journal does not take it (" SOCKET ")");
    return FALSE;
}
