/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a person looks at and types when a swap is UNKNOWN. */
#include "base/error.h"
#include "engine/swap_private.h"

static char *of_missing_domain(const VrSwap *swap)
{
    const VrSwapRow *row = swap->row;
    const char *root = vr_store_root(swap->engine.store);

    return g_strdup_printf(
        "libvirt knows no domain of UUID %s: define it again ('virsh define %s/disks/%s/g%u.xml' is how it was "
        "before) and run 'virt-reimage recover %s', or end this swap with 'virt-reimage recover %s "
        "--forget %s'",
        row->uuid, root, row->uuid, row->from, row->set_name, row->set_name, row->domain);
}

static char *of_libvirt(const VrSwap *swap)
{
    return g_strdup_printf("see that libvirt answers ('systemctl status libvirtd', 'virsh dominfo %s'), then run "
                           "'virt-reimage recover %s'",
                           swap->row->domain, swap->row->set_name);
}

static char *of_domain(const VrSwap *swap)
{
    const VrSwapRow *row = swap->row;

    return g_strdup_printf(
        "look at 'virsh domstate --reason %s' and 'virsh dumpxml --inactive %s' (its old disk is %s, the "
        "new one %s), mend what is said here, then run 'virt-reimage recover %s'",
        row->domain, row->domain, swap->from->path, swap->to->path, row->set_name);
}

char *vr_swap_advice(const VrSwap *swap, const GError *cause)
{
    if (g_error_matches(cause, VR_ERROR, VR_ERROR_NOT_FOUND))
        return of_missing_domain(swap);
    if (g_error_matches(cause, VR_ERROR, VR_ERROR_DISCONNECTED))
        return of_libvirt(swap);
    return of_domain(swap);
}

char *vr_swap_advice_unreadable(const VrEngine *engine, const VrSwapRow *row, const GError *cause)
{
    g_autoptr(VrGeneration) from = vr_journal_generation(engine->journal, row->uuid, row->from, NULL);

    return g_strdup_printf(
        "stays as it is, its record cannot be read: %s; see that %s/disks/%s and state.db are whole, then run "
        "'virt-reimage recover %s'; what is lost is not needed when '%s' has its old disk%s%s: see 'virsh dumpxml' "
        "(and "
        "mend it with 'virsh edit'), then end this swap with 'virt-reimage recover %s --forget %s'",
        cause->message, vr_store_root(engine->store), row->uuid, row->set_name, row->domain, from ? " " : "",
        from ? from->path : "", row->set_name, row->domain);
}
