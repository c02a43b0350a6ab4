/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Findings about the domain itself: its state, what libvirt keeps of it, what a stop means. */
#include "hv/domain.h"
#include "hv/preflight_private.h"

#include <string.h>

/* -- The domain's state --------------------------------------------------------------------------- */

static char *state_remedy(const VrPreflightCheck *check)
{
    switch (check->info->state) {
    case VR_DOMAIN_PAUSED:
        if (check->info->reason == VR_REASON_STARTING)
            return vr_domain_start_remedy(check->info);
        if (check->info->reason == VR_REASON_IO_ERROR)
            return g_strdup_printf("make space on the host's disk, then: virsh resume %s", check->typed);
        return g_strdup_printf("virsh resume %s", check->typed);
    case VR_DOMAIN_SUSPENDED:
        return g_strdup_printf("virsh dompmwakeup %s", check->typed);
    case VR_DOMAIN_CRASHED:
        return g_strdup_printf("virsh destroy %s, then start it or leave it off", check->typed);
    case VR_DOMAIN_STOPPING:
        return g_strdup("wait until it is off");
    default:
        return g_strdup_printf("look at: virsh domstate --reason %s", check->typed);
    }
}

void vr_preflight_state(VrPreflightCheck *check)
{
    const VrDomainInfo *info = check->info;

    if (info->state == VR_DOMAIN_OFF && info->reason == VR_REASON_MIGRATED) {
        vr_preflight_add(check, "migrated", g_strdup_printf("%s was migrated to another host", check->name),
                         g_strdup("swap it on the host where it runs"));
        return;
    }
    if (info->state == VR_DOMAIN_RUNNING || info->state == VR_DOMAIN_OFF)
        return;
    vr_preflight_add(check, "not-running-or-off",
                     g_strdup_printf("%s is neither running nor off: %s", check->name, vr_domain_state_words(info)),
                     state_remedy(check));
}

void vr_preflight_managed_save(VrPreflightCheck *check)
{
    if (!check->info->managed_save)
        return;
    vr_preflight_add(
        check, "managed-save", g_strdup_printf("%s has a managed save: it would resume on its old disk", check->name),
        g_strdup_printf("virsh start %s to resume it first, or virsh managedsave-remove %s to drop the save",
                        check->typed, check->typed));
}

void vr_preflight_snapshots(VrPreflightCheck *check)
{
    const VrDomainInfo *info = check->info;

    if (info->snapshots > 0)
        vr_preflight_add(check, "snapshots", g_strdup_printf("%s has %u snapshot(s)", check->name, info->snapshots),
                         g_strdup_printf("virsh snapshot-list %s, then for each: virsh snapshot-delete %s SNAPSHOT",
                                         check->typed, check->typed));
    if (info->checkpoints > 0)
        vr_preflight_add(
            check, "checkpoints",
            g_strdup_printf("%s has %u checkpoint(s) of a backup tool", check->name, info->checkpoints),
            g_strdup_printf(
                "virsh checkpoint-list %s, then for each: virsh checkpoint-delete %s CHECKPOINT --metadata; "
                "the next backup is then a full one",
                check->typed, check->typed));
}

void vr_preflight_job(VrPreflightCheck *check)
{
    if (check->facts->job == NULL)
        return;
    vr_preflight_add(check, "job", g_strdup_printf("%s has a running job: %s", check->name, check->facts->job),
                     g_strdup_printf("wait for its end; look at: virsh domjobinfo %s, virsh blockjob %s DISK --info",
                                     check->typed, check->typed));
}

void vr_preflight_persistent(VrPreflightCheck *check)
{
    if (check->info->persistent)
        return;
    vr_preflight_add(
        check, "transient-domain", g_strdup_printf("%s is transient: it is gone once it stops", check->name),
        g_strdup_printf("virsh dumpxml --inactive --security-info %s > domain.xml; virsh define domain.xml",
                        check->typed));
}

/* -- What a stop, a reboot and a crash mean ------------------------------------------------------- */

void vr_preflight_actions(VrPreflightCheck *check)
{
    const VrDomainDef *def = check->def;

    if (def->on_poweroff != NULL && strcmp(def->on_poweroff, "destroy") != 0)
        vr_preflight_add(check, "on-poweroff",
                         g_strdup_printf("%s has on_poweroff=%s: a stop would %s it", check->name, def->on_poweroff,
                                         strstr(def->on_poweroff, "restart") != NULL ? "restart" : "not end"),
                         g_strdup_printf("virsh edit %s: <on_poweroff>destroy</on_poweroff>", check->typed));
    if (def->on_reboot != NULL && strcmp(def->on_reboot, "restart") != 0)
        vr_preflight_add(
            check, "on-reboot",
            g_strdup_printf("%s has on_reboot=%s: an image that reboots at its first boot would end up off",
                            check->name, def->on_reboot),
            g_strdup_printf("virsh edit %s: <on_reboot>restart</on_reboot>", check->typed));
    if (def->on_crash != NULL && (strcmp(def->on_crash, "preserve") == 0 || strstr(def->on_crash, "restart") != NULL))
        vr_preflight_add(
            check, "on-crash",
            g_strdup_printf("%s has on_crash=%s: a new image that crashes is seen late", check->name, def->on_crash),
            g_strdup_printf("virsh edit %s: <on_crash>destroy</on_crash>", check->typed));
}

/* Of a guest that is off, and stays off, nobody asks the agent anything. */
void vr_preflight_agent(VrPreflightCheck *check)
{
    if (!check->needs->needs_agent || check->def->agent_channel || check->info->state == VR_DOMAIN_OFF)
        return;
    vr_preflight_add(
        check, "no-agent",
        g_strdup_printf("%s has no guest agent channel, and the model needs the agent, for its health, its extensions, "
                        "what is carried over, or to stop it",
                        check->name),
        g_strdup_printf("virsh edit %s: <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>"
                        "</channel>; the image must run qemu-guest-agent",
                        check->typed));
}

/* H7: it runs, so there is somebody to be told, and no way to tell him. */
void vr_preflight_notice(VrPreflightCheck *check)
{
    gboolean required = check->needs->notice == VR_NOTICE_REQUIRED;
    const char *why = check->def->agent_channel ? "its guest agent does not answer" : "it has no guest agent channel";

    if (check->needs->notice == VR_NOTICE_NONE || check->info->state != VR_DOMAIN_RUNNING ||
        (check->def->agent_channel && !check->facts->agent_silent))
        return;
    vr_preflight_add(
        check, required ? "no-agent-for-notice" : "goes-without-notice",
        g_strdup_printf("%s %s before it goes down: %s", check->name,
                        required ? "cannot have the notice that the model asks for" : "has no notice", why),
        check->def->agent_channel
            ? g_strdup("start qemu-guest-agent in the guest, or let such guests go with 'withoutAgent: proceed'")
            : g_strdup_printf("virsh edit %s: <channel type='unix'><target type='virtio' "
                              "name='org.qemu.guest_agent.0'/></channel>; or let such guests go with "
                              "'withoutAgent: proceed'",
                              check->typed));
}

/* A host that reboots in the middle of a swap starts its guests by libvirt alone (SAFETY invariant 8). */
void vr_preflight_autostart(VrPreflightCheck *check)
{
    if (check->info->autostart || check->info->state != VR_DOMAIN_RUNNING)
        return;
    vr_preflight_add(
        check, "no-autostart",
        g_strdup_printf("%s runs, but does not start with the host: a reboot of the host leaves it off", check->name),
        g_strdup_printf("virsh autostart %s", check->typed));
}

void vr_preflight_host(VrPreflightCheck *check)
{
    const VrPreflightFacts *facts = check->facts;

    if (facts->host_stopping != NULL)
        vr_preflight_add(check, "host-stopping",
                         g_strdup_printf("%s: its host is shutting down (%s)", check->name, facts->host_stopping),
                         g_strdup("wait until the host is back"));
    else if (facts->host_shutdown != NULL)
        vr_preflight_add(
            check, "host-shutdown-scheduled",
            g_strdup_printf("%s: its host has a shutdown scheduled: %s", check->name, facts->host_shutdown),
            g_strdup("shutdown -c, or wait until the host is back"));
}
