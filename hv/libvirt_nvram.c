/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which file is the NVRAM of a domain whose XML names none: <os firmware='efi'/>, as virt-install writes it. libvirt 9.0 chooses
 * loader and file anew at each start and shows them in the live XML only (later ones write them at define). Of a domain that is off
 * libvirt itself is asked, with its own conversion to a command line: the same choice, and nothing starts.
 */
#include "base/error.h"
#include "hv/connection_private.h"
#include "hv/libvirt_private.h"
#include <jansson.h>
#include <string.h>

#define NVRAM_NODE "libvirt-pflash1-storage" /* the second flash: the first one is the code */

/* The file name of a -blockdev argument, when it is the NVRAM's. */
static char *file_of(const char *argument)
{
    json_t *node = argument[0] == '{' ? json_loads(argument, 0, NULL) : NULL;
    const char *name = json_string_value(json_object_get(node, "node-name"));
    char *file = NULL;

    if (g_strcmp0(name, NVRAM_NODE) == 0 && g_strcmp0(json_string_value(json_object_get(node, "driver")), "file") == 0)
        file = g_strdup(json_string_value(json_object_get(node, "filename")));
    json_decref(node);
    return file;
}

char *vr_libvirt_nvram_of_command(const char *command)
{
    g_auto(GStrv) argv = NULL;
    char *file = NULL;

    if (!g_shell_parse_argv(command, NULL, &argv, NULL))
        return NULL;
    for (gsize i = 0; argv[i] != NULL && file == NULL; i++)
        file = file_of(argv[i]);
    return file;
}

static char *xml_of(VrCall *call, GError **error)
{
    g_autoptr(virDomain) domain = NULL;
    char *xml;

    if (call->text != NULL)
        return strdup(call->text);
    domain = vr_libvirt_domain(call, error);
    if (domain == NULL)
        return NULL;
    xml = virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE);
    if (xml == NULL)
        vr_libvirt_error(call, error);
    return xml;
}

static gboolean do_nvram(VrCall *call, GError **error)
{
    char *xml = xml_of(call, error), *command;

    if (xml == NULL)
        return FALSE;
    command = virConnectDomainXMLToNative(call->conn, "qemu-argv", xml, 0);
    free(xml);
    if (command == NULL)
        return vr_libvirt_error(call, error);
    call->string = vr_libvirt_nvram_of_command(command);
    free(command);
    if (call->string == NULL)
        g_set_error_literal(error, VR_ERROR, VR_ERROR_HYPERVISOR, "libvirt does not say which file it takes");
    return call->string != NULL;
}

char *vr_libvirt_op_nvram(VrHv *hv, const char *uuid, const char *xml, GError **error)
{
    VrConnection *self = (VrConnection *)hv;
    g_autoptr(VrCall) call = vr_call_new(do_nvram, uuid);

    call->text = g_strdup(xml);
    if (!vr_connection_call(self, call, "NVRAM", self->call_timeout_ms, VR_OVERRUN_DROP, error))
        return NULL;
    return g_steal_pointer(&call->string);
}
