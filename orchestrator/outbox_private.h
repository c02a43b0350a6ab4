/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The channels of outbox_deliver.h, one file each. */
#pragma once

#include "orchestrator/outbox_deliver.h"

/* outbox_journal.c: there is a journal on this host. */
gboolean vr_outbox_has_journal(void);
gboolean vr_outbox_send_journal(const VrChannel *channel, const VrOutboxNotice *notice, GError **error);

/* outbox_webhook.c */
gboolean vr_outbox_send_webhook(const VrChannel *channel, const VrOutboxNotice *notice, GError **error);
gboolean vr_outbox_check_webhook(const VrChannel *channel, GError **error);

/* outbox_hooks.c: adds a channel for each hook, in the order of their names. */
void vr_outbox_add_hooks(const VrConfig *config, GPtrArray *channels);

VrChannel *vr_channel_new(const char *name, const VrConfig *config);
