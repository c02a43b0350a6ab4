/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is asked of libvirt about the host rather than about a domain: URI, versions, pools, volumes, definitions. */
#include "base/durable.h"
#include "base/error.h"
#include "base/fd.h"
#include "hv/connection_private.h"
#include "hv/domain_dom.h"
#include "hv/libvirt_private.h"
#include <libvirt/virterror.h>
#include <string.h>
#include <unistd.h>

static gboolean run(VrHv *hv, VrCall *call, const char *what, GError **error)
{
    VrConnection *self = vr_connection_of(hv, error);

    return self != NULL && vr_connection_call(self, call, what, self->call_timeout_ms, VR_OVERRUN_DROP, error);
}

static char *take_string(VrCall *call, char *value, GError **error)
{
    if (value == NULL)
        vr_libvirt_error(call, error);
    char *copy = g_strdup(value);
    free(value);
    return copy;
}

/* -- Durable definitions -------------------------------------------------------------------------- */

static char *query_value(const char *query, const char *name)
{
    g_autofree char *value = NULL;

    if (query == NULL)
        return NULL;
    g_autoptr(GHashTable) params = g_uri_parse_params(query, -1, "&;", G_URI_PARAMS_NONE, NULL);
    return params != NULL ? g_strdup(g_hash_table_lookup(params, name)) : NULL;
}

/* The directory of the domain definitions, NULL when it is not known to be on this host. */
static char *config_dir(GUri *uri)
{
    const char *path = g_uri_get_path(uri);

    if (strcmp(path, "/system") == 0)
        return g_strdup("/etc/libvirt/qemu");
    if (strcmp(path, "/session") == 0)
        return g_build_filename(g_get_user_config_dir(), "libvirt", "qemu", NULL);
    g_autofree char *root = query_value(g_uri_get_query(uri), "root");
    if (strcmp(path, "/embed") == 0 && root != NULL)
        return g_build_filename(root, "etc", "qemu", NULL);
    return NULL;
}

static gboolean is_local_qemu(GUri *uri)
{
    const char *scheme = g_uri_get_scheme(uri);
    const char *host = g_uri_get_host(uri);

    return (strcmp(scheme, "qemu") == 0 || strcmp(scheme, "qemu+unix") == 0) && (host == NULL || host[0] == '\0');
}

gboolean vr_libvirt_flush_dir(const char *dir, GError **error)
{
    vr_autofd fd = vr_dir_open(dir, error);

    return fd >= 0 && vr_fsync(fd, dir, error);
}

gboolean vr_libvirt_flush_config(virConnectPtr conn, GError **error)
{
    char *text = virConnectGetURI(conn);
    g_autoptr(GUri) uri = text != NULL ? g_uri_parse(text, G_URI_FLAGS_NONE, NULL) : NULL;

    free(text);
    if (uri == NULL || !is_local_qemu(uri))
        return TRUE;
    g_autofree char *socket = query_value(g_uri_get_query(uri), "socket");
    g_autofree char *dir = config_dir(uri);
    if (socket != NULL || dir == NULL) {
        /* A libvirtd with a socket of its own may have its files anywhere, in a mount namespace even: flush it
         * all. */
        sync();
        return TRUE;
    }
    if (vr_libvirt_flush_dir(dir, error))
        return TRUE;
    g_prefix_error(error, "the domain is configured, but may be lost at a power cut: ");
    return FALSE;
}

/* -- Questions ------------------------------------------------------------------------------------ */

static gboolean do_uri(VrCall *call, GError **error)
{
    call->string = take_string(call, virConnectGetURI(call->conn), error);
    return call->string != NULL;
}

char *vr_connection_uri(VrHv *hv, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_uri, NULL);

    return run(hv, call, "URI", error) ? g_steal_pointer(&call->string) : NULL;
}

static char *version_text(unsigned long version)
{
    return g_strdup_printf("%lu.%lu.%lu", version / 1000000, version / 1000 % 1000, version % 1000);
}

static gboolean do_versions(VrCall *call, GError **error)
{
    unsigned long library = 0, hypervisor = 0;

    if (virConnectGetLibVersion(call->conn, &library) < 0 || virConnectGetVersion(call->conn, &hypervisor) < 0)
        return vr_libvirt_error(call, error);
    g_autofree char *libvirt = version_text(library);
    g_autofree char *qemu = version_text(hypervisor);
    call->string = g_strdup_printf("libvirt %s, %s %s", libvirt, virConnectGetType(call->conn), qemu);
    return TRUE;
}

char *vr_connection_versions(VrHv *hv, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_versions, NULL);

    return run(hv, call, "versions", error) ? g_steal_pointer(&call->string) : NULL;
}

static gboolean do_security_models(VrCall *call, GError **error)
{
    char *xml = virConnectGetCapabilities(call->conn);
    g_autoptr(xmlDoc) doc = xml != NULL ? vr_dom_parse(xml, "capabilities", error) : NULL;

    if (xml == NULL)
        return vr_libvirt_error(call, error);
    free(xml);
    if (doc == NULL)
        return FALSE;
    call->strings = g_ptr_array_new_with_free_func(g_free);
    const xmlNode *model = vr_dom_child(vr_dom_child(xmlDocGetRootElement(doc), "host"), "secmodel");
    for (; model != NULL; model = vr_dom_next(model, "secmodel")) {
        char *name = vr_dom_content(vr_dom_child(model, "model"));
        if (name != NULL && strcmp(name, "none") != 0)
            g_ptr_array_add(call->strings, g_steal_pointer(&name));
        g_free(name);
    }
    return TRUE;
}

GPtrArray *vr_connection_security_models(VrHv *hv, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_security_models, NULL);

    return run(hv, call, "capabilities", error) ? g_steal_pointer(&call->strings) : NULL;
}

/* -- Pools ---------------------------------------------------------------------------------------- */

static char *pool_target(virStoragePoolPtr pool)
{
    char *xml = virStoragePoolGetXMLDesc(pool, 0);
    g_autoptr(xmlDoc) doc = xml != NULL ? vr_dom_parse(xml, "pool", NULL) : NULL;

    free(xml);
    if (doc == NULL)
        return NULL;
    return vr_dom_content(vr_dom_child(vr_dom_child(xmlDocGetRootElement(doc), "target"), "path"));
}

static gboolean is_at_or_above(const char *dir, const char *path)
{
    g_autofree char *upper = g_canonicalize_filename(dir, "/");
    g_autofree char *lower = g_canonicalize_filename(path, "/");
    gsize length = strlen(upper);

    if (strcmp(upper, "/") == 0)
        return TRUE;
    return strncmp(upper, lower, length) == 0 && (lower[length] == '\0' || lower[length] == '/');
}

static gboolean do_pools_over(VrCall *call, GError **error)
{
    virStoragePoolPtr *pools = NULL;
    int n = virConnectListAllStoragePools(call->conn, &pools, 0);

    if (n < 0 && virGetLastErrorCode() != VIR_ERR_NO_SUPPORT && virGetLastErrorCode() != VIR_ERR_NO_CONNECT)
        return vr_libvirt_error(call, error);
    call->strings = g_ptr_array_new_with_free_func(g_free);
    for (int i = 0; i < n; i++) {
        g_autofree char *target = pool_target(pools[i]);
        if (target != NULL && is_at_or_above(target, call->subject))
            g_ptr_array_add(call->strings, g_strdup(virStoragePoolGetName(pools[i])));
        virStoragePoolFree(pools[i]);
    }
    free(pools);
    return TRUE;
}

GPtrArray *vr_connection_pools_over(VrHv *hv, const char *path, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_pools_over, path);

    return run(hv, call, "storage pools", error) ? g_steal_pointer(&call->strings) : NULL;
}

static gboolean do_volume_path(VrCall *call, GError **error)
{
    g_autoptr(virStoragePool) pool = virStoragePoolLookupByName(call->conn, call->subject);
    g_autoptr(virStorageVol) volume = pool != NULL ? virStorageVolLookupByName(pool, call->text) : NULL;

    if (pool == NULL && virGetLastErrorCode() == VIR_ERR_NO_STORAGE_POOL) {
        g_set_error(error, VR_ERROR, VR_ERROR_REFUSED, "libvirt has no storage pool '%s'", call->subject);
        return FALSE;
    }
    if (volume == NULL)
        return vr_libvirt_error(call, error);
    call->string = take_string(call, virStorageVolGetPath(volume), error);
    return call->string != NULL;
}

char *vr_connection_volume_path(VrHv *hv, const char *pool, const char *volume, GError **error)
{
    g_autoptr(VrCall) call = vr_call_new(do_volume_path, pool);

    call->text = g_strdup(volume);
    return run(hv, call, "volume", error) ? g_steal_pointer(&call->string) : NULL;
}
