/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/error.h"

#include <errno.h>
#include <string.h>

/* clang-format off */
G_DEFINE_QUARK(vr-error-quark, vr_error)
/* clang-format on */

typedef struct {
    const char *name;
    int exit_status; /* DESIGN, command line: exit codes */
} CodeInfo;

/* One row a code, in the order of the enum. Wrong input of any form counts as usage; something that is there and
 * differs from what was asked counts as a refusal. */
static const CodeInfo codes[VR_ERROR_LAST_] = {
    [VR_ERROR_FAILED] = {"Failed", 1},
    [VR_ERROR_USAGE] = {"Usage", 2},
    [VR_ERROR_INVALID] = {"Invalid", 2},
    [VR_ERROR_NOT_FOUND] = {"NotFound", 1},
    [VR_ERROR_CONFLICT] = {"Conflict", 4},
    [VR_ERROR_REFUSED] = {"Refused", 4},
    [VR_ERROR_POLICY] = {"Policy", 3},
    [VR_ERROR_BUSY] = {"Busy", 5},
    [VR_ERROR_PARTIAL] = {"Partial", 6},
    [VR_ERROR_PERSON] = {"Person", 7},
    [VR_ERROR_CANCELLED] = {"Cancelled", 1},
    [VR_ERROR_TIMEOUT] = {"Timeout", 1},
    [VR_ERROR_IO] = {"Io", 1},
    [VR_ERROR_NO_SPACE] = {"NoSpace", 1},
    [VR_ERROR_CHILD] = {"Child", 1},
    [VR_ERROR_HYPERVISOR] = {"Hypervisor", 1},
    [VR_ERROR_DISCONNECTED] = {"Disconnected", 1},
    [VR_ERROR_AGENT] = {"Agent", 1},
    [VR_ERROR_DATABASE] = {"Database", 1},
    [VR_ERROR_FENCED] = {"Fenced", 5},
};

static const CodeInfo *code_info(int code)
{
    if (code < 0 || code >= VR_ERROR_LAST_)
        code = VR_ERROR_FAILED;
    return &codes[code];
}

int vr_error_exit_status(const GError *error)
{
    if (!error)
        return 0;
    return error->domain == VR_ERROR ? code_info(error->code)->exit_status : 1;
}

const char *vr_error_name(int code)
{
    return code_info(code)->name;
}

static VrErrorCode code_of_errno(int errnum)
{
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return VR_ERROR_NO_SPACE;
    case ENOENT:
        return VR_ERROR_NOT_FOUND;
    default:
        return VR_ERROR_IO;
    }
}

void vr_set_error_errno(GError **error, int errnum, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, VR_ERROR, code_of_errno(errnum), "%s: %s", what, g_strerror(errnum));
}

char *vr_printable(const char *text, gssize length)
{
    if (!text)
        return g_strdup("");
    g_autofree char *valid = g_utf8_make_valid(text, length);
    GString *out = g_string_new(NULL);
    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        g_string_append_unichar(out, g_unichar_isprint(c) ? c : '?');
    }
    return g_string_free(out, FALSE);
}
