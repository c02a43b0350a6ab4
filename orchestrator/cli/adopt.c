/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Adoption (A14): which version does a guest run that we did not make? A person says so; the guest is not touched. */
#include "base/clock.h"
#include "base/error.h"
#include "hv/domain_xml.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/session.h"
#include "orchestrator/cli/targets.h"

static gboolean check_generation(const VrSession *session, const VrInstance *instance, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrGeneration) current = vr_journal_current(session->journal, instance->uuid, &local);

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (!current || !current->ours)
        return TRUE;
    g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "'%s' runs generation %u, which is known to be %s %s",
                instance->domain, current->number, current->image, current->version);
    vr_error_now(error, "only the disk that it had before the first swap is adopted");
    return FALSE;
}

/* What it came with, where it lies, as the domain names it now. */
static VrGeneration *generation_found(const VrSession *session, const VrInstance *instance, const VrImage *image,
                                      GError **error)
{
    g_autofree char *xml = vr_hv_inactive_xml(session->hv, instance->uuid, error);
    g_autoptr(VrDomainDef) def = xml ? vr_domain_def_parse(xml, error) : NULL;
    const VrDomainDisk *disk = def ? vr_domain_def_os_disk(def, session->set->model->os_target, error) : NULL;
    VrGeneration *found;

    if (disk && !disk->source && !disk->pool)
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "its OS disk %s is of type '%s', which cannot be swapped",
                    disk->target, disk->type);
    if (!disk || (!disk->source && !disk->pool))
        return NULL;
    found = g_new0(VrGeneration, 1);
    g_strlcpy(found->uuid, instance->uuid, sizeof(found->uuid));
    found->path = disk->source ? g_strdup(disk->source) : g_strdup_printf("%s/%s", disk->pool, disk->volume);
    found->format = g_strdup(disk->driver ? disk->driver : "raw");
    found->disk_type = g_strdup(disk->type);
    found->image = g_strdup(image->name);
    found->version = g_strdup(image->version);
    found->state = VR_GENERATION_CURRENT;
    found->made_us = vr_clock_wall_us();
    return found;
}

/* Adoption is about what is, so an excluded version is as good as any. */
static VrImage *image_said(const VrSession *session, GError **error)
{
    const char *version = session->cli->options.version;
    g_autofree char *name = NULL;

    if (!version) {
        g_set_error(error, VR_ERROR, VR_ERROR_USAGE, "say which version the guest runs: --version V");
        return NULL;
    }
    name = vr_set_image_name(session, error);
    return name ? vr_store_get(session->store, name, version, error) : NULL;
}

gboolean vr_cmd_adopt(const VrCli *cli, GError **error)
{
    g_auto(VrSession) session = {0};
    const VrInstance *instance;
    g_autoptr(VrImage) image = NULL;
    g_autoptr(VrGeneration) found = NULL;

    if (!vr_session_open(&session, cli, error) || !vr_session_take_set(&session, cli->args[0], error))
        return FALSE;
    instance = vr_session_instance(&session, cli->args[1], error);
    image = instance ? image_said(&session, error) : NULL;
    if (!image || !check_generation(&session, instance, error))
        return FALSE;
    found = generation_found(&session, instance, image, error);
    if (!found)
        g_prefix_error(error, "'%s' cannot be adopted: ", instance->domain);
    if (!found || (!cli->options.dry_run && !vr_journal_record_found(session.journal, session.owner, found, error)))
        return FALSE;
    if (cli->options.dry_run)
        vr_say(cli, "%s would be adopted as %s %s (%s)", instance->domain, image->name, image->version, found->path);
    else
        vr_say(cli, "%s is adopted as %s %s (generation %u, %s)", instance->domain, image->name, image->version,
               found->number, found->path);
    return TRUE;
}
