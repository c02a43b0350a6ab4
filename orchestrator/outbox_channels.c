/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/outbox_private.h"

static void channel_free(gpointer data)
{
    VrChannel *channel = data;

    g_free(channel->name);
    g_free(channel->path);
    g_free(channel);
}

VrChannel *vr_channel_new(const char *name, const VrConfig *config)
{
    VrChannel *channel = g_new0(VrChannel, 1);

    channel->name = g_strdup(name);
    channel->config = config;
    return channel;
}

static VrChannel *add(GPtrArray *channels, const char *name, const VrConfig *config,
                      gboolean (*send)(const VrChannel *, const VrOutboxNotice *, GError **))
{
    VrChannel *channel = vr_channel_new(name, config);

    channel->send = send;
    g_ptr_array_add(channels, channel);
    return channel;
}

GPtrArray *vr_outbox_channels(const VrConfig *config)
{
    GPtrArray *channels = g_ptr_array_new_with_free_func(channel_free);

    if (config->journal && vr_outbox_has_journal())
        add(channels, "journal", config, vr_outbox_send_journal);
    if (config->webhook)
        add(channels, "webhook", config, vr_outbox_send_webhook)->check = vr_outbox_check_webhook;
    vr_outbox_add_hooks(config, channels);
    return channels;
}
